"""What the scripts import, once, before they are forked."""

import torch

import evaluation.evaluate_models  # noqa: F401

torch.set_num_threads(1)

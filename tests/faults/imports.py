"""What the scripts import, once, before they are forked."""

import torch

import lightning_modules.cli
import lightning_modules.evaluation  # noqa: F401
import merging.run
import merging.stream  # noqa: F401

torch.set_num_threads(1)

"""Whether Weights & Biases is used online, offline or not at all."""

import os


def wandb_mode() -> str:
    """Return the mode that `WANDB_MODE` sets, but offline without a login, so that wandb never asks for one."""
    import wandb  # takes seconds

    mode = (os.environ.get("WANDB_MODE") or "online").lower()
    return "offline" if mode == "online" and not wandb.login(prompt=False) else mode

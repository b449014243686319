"""Lightning's Trainer with a number format chosen once: float32, or bfloat16 beside float32 weights where fast."""

from typing import Any, Literal

import lightning as L
import torch

Precision = Literal["auto", "32-true", "64-true", "bf16-mixed"]


def resolve_precision(precision: str | None, accelerator: str = "auto", *, needs_float32: bool = False) -> str:
    """Return what `auto` means on this machine; any other precision is returned as it is.

    Args:
        precision: of Lightning's Trainer, whose None is float32, or `auto`.
        accelerator: of Lightning's Trainer: where training will run.
        needs_float32: whether the algorithm works with differences that bfloat16 rounds away.
    """
    if precision != "auto":
        return precision or "32-true"
    return "bf16-mixed" if not needs_float32 and has_bfloat16(accelerator) else "32-true"


def has_bfloat16(accelerator: str = "auto") -> bool:
    """Whether the hardware multiplies matrices in bfloat16: GPUs by torch, CPUs by AVX-512 or AMX instructions."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("auto", "cpu"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class FineTuningTrainer(L.Trainer):
    """Lightning's Trainer with `auto` as its precision: bf16-mixed where the hardware has it, else 32-true.

    Args:
        precision: number format of the computation; weights are always float32. None is 32-true.
        options: all others of Lightning's Trainer.
    """

    def __init__(self, *, precision: Precision | None = "auto", **options: Any) -> None:
        super().__init__(precision=resolve_precision(precision, str(options.get("accelerator", "auto"))), **options)

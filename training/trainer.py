"""Lightning's Trainer, with a precision that follows the machine."""

from typing import Any

import lightning as L

from backbone.precision import Precision, resolve_precision


class FineTuningTrainer(L.Trainer):
    """Lightning's Trainer with `auto` as its precision: bf16-mixed where the hardware has it, else 32-true.

    Args:
        precision: number format of the computation; weights are always float32. None is 32-true.
        options: all others of Lightning's Trainer.
    """

    def __init__(self, *, precision: Precision | None = "auto", **options: Any) -> None:
        super().__init__(precision=resolve_precision(precision, str(options.get("accelerator", "auto"))), **options)

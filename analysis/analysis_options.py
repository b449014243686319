"""The options of `analyze.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from common.errors import UserError
from common.option_types import Range
from common.options import option


@dataclass(frozen=True)
class AnalysisOptions:
    """Options."""

    models: list[Any] = option([], positional=True, metavar="MODEL")
    """Fine-tunes: model folders or Hub ids, also NAME=PATH."""
    base: str | None = None
    """What they were fine-tuned from: a model folder or Hub id."""
    threshold: Annotated[float, Range(0)] | Literal["auto"] = 5e-5
    """Mean absolute change above which a row counts as changed, or `auto`: the median over all rows that changed."""
    out: Path = Path("outputs/analysis")
    """Folder for figures and CSV."""


def run(options: AnalysisOptions) -> None:
    """Analyze.

    Raises:
        UserError: where models or base are missing, or as `analysis.analyze_models.analyze`.
    """
    if not options.models:
        raise UserError("no model named: give model folders, or a --config that lists models, e.g. --config demo.yaml")
    if not options.base:
        raise UserError("no base named: give --base, the folder or Hub id of the model that was fine-tuned")
    from analysis.analyze_models import analyze

    analyze(options.models, options.base, options.threshold, options.out)

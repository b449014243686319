"""Two models' hypotheses, test set by test set: paired differences, and what changed most."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from common.errors import UserError
from scoring.files import read_json_lines
from scoring.results import compare, score_set
from scoring.summary import comparison_summary


def compare_folders(first: Path, second: Path, profile: str = "cjk") -> None:
    """Prints the comparison of every test set that both folders hold as `<set>.jsonl`.

    Raises:
        UserError: where a folder is missing, they share no test set, or their utterances differ.
    """
    for folder in (first, second):
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; expected a model's hypotheses, such as outputs/demo/hypotheses/base"
            )
    names = sorted({path.stem for path in first.glob("*.jsonl")} & {path.stem for path in second.glob("*.jsonl")})
    if not names:
        raise UserError(f"{first} and {second} share no test set (<set>.jsonl)")
    console = Console()
    for name in names:
        ours, theirs = (score_set(read_json_lines(folder / f"{name}.jsonl"), profile) for folder in (first, second))
        console.rule(name)
        console.print(comparison_summary(compare(ours, theirs), first.name, second.name))

"""Merges fine-tunes of one Whisper into one model: `python merge.py ties --help`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import run_script
from merging.command import main


def score(folder: Path, weights: Mapping[str, Any], manifests: Sequence[Path]) -> Mapping[str, float]:
    """Scores weights in memory on manifests: the mixed error rate of each pair."""
    from evaluation.score_weights import score_state_dict

    return score_state_dict(folder, weights, manifests)


if __name__ == "__main__":
    run_script(lambda: main(score=score))

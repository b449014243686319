"""One trial of a wandb sweep over a merging method's strengths; see configs/sweep/merge.yaml.

    python -m evaluation.merge_trial ties --config demo.yaml --lambda 0.8 --density 0.2

It takes the options of `python merge.py sweep`, merges, scores and logs each pair's error rate.
"""

import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import wandb

from common.errors import UserError, run_script
from common.files import scratch_folder
from common.printing import show
from common.wandb_mode import wandb_mode
from evaluation.score_weights import score_state_dict
from merging.command import main as merge


def trial(arguments: Sequence[str]) -> dict[str, float]:
    """Merge with one setting, score it, log it to wandb, and return the figures.

    Raises:
        UserError: as `merge.py sweep`, or where the arguments are several settings.
    """
    with scratch_folder(Path(tempfile.gettempdir()) / "crosspair-merge-trial") as out:
        merge(["sweep", *arguments, "--out", str(out)], score=score_state_dict)
        with (out / "sweep.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    if len(rows) != 1:
        raise UserError(f"a trial has one setting, found {len(rows)}; give --lambda and --density one value each")
    strengths = {name: float(rows[0][name]) for name in ("lambda", "density") if rows[0][name]}
    rates = {f"development/{name}": float(value) for name, value in rows[0].items() if name not in strengths and value}
    project = os.environ.get("WANDB_PROJECT", "crosspair")
    with wandb.init(project=project, job_type="merge", mode=wandb_mode()) as run:
        run.config.update({"method": arguments[0], **strengths}, allow_val_change=True)
        run.log(rates)
    return strengths | rates


if __name__ == "__main__":
    run_script(lambda: show(trial(sys.argv[1:])))

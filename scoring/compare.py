"""Two evaluations, or two models of one, test set by test set: paired differences, and what changed most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from common.errors import UserError, nearest
from scoring.escape import visible
from scoring.results import SetScore, compare, differences, error_rates, score_set
from scoring.summary import comparison_summary, overview
from scoring.transcript_files import Run, read_run

HYPOTHESES = "hypotheses.jsonl"


@dataclass(frozen=True)
class Side:
    """What one side of a comparison names: an evaluation, and the model of it where one is named."""

    folder: Path
    model: str | None
    run: Run

    @property
    def models(self) -> list[str]:
        """The models to compare."""
        return list(self.run.models) if self.model is None else [self.model]


def compare_runs(first: str, second: str, profile: str | None = None) -> None:
    """Print the comparison of two sides, each an evaluation's folder or `FOLDER/MODEL`.

    Where a side names no model and has several, the models that both sides have are compared, each with its namesake.

    Args:
        first: an evaluation's folder, or `FOLDER/MODEL`.
        second: the other side.
        profile: to score both with; None takes the evaluations' own.

    Raises:
        UserError: where a side is no evaluation, they share no model or test set, or their utterances differ.
    """
    ours, theirs = find_side(first), find_side(second)
    if profile is None and ours.run.profile != theirs.run.profile:
        raise UserError(
            f"{ours.folder} was scored with the profile {ours.run.profile}, {theirs.folder} with {theirs.run.profile}; "
            "name one with --profile"
        )
    console = Console()
    for one, other in _matched(ours, theirs):
        names = one, other
        if ours.folder != theirs.folder:
            names = f"{ours.folder.name}/{one}", f"{theirs.folder.name}/{other}"
        console.rule(Text(f"{visible(names[0])} minus {visible(names[1])}"), style="dim")
        split = profile or ours.run.profile
        here, there = _scores(ours, theirs, one, other, split)
        pairs = _averaged(ours.folder)
        for figure in ("mer", "tolerant"):
            rates = error_rates(here, **pairs, figure=figure), error_rates(there, **pairs, figure=figure)
            console.print(overview(*rates, differences(here, there, **pairs, figure=figure), *names, split, figure))
        for name in here:
            console.rule(Text(visible(name)), style="dim")
            console.print(comparison_summary(compare(here[name], there[name]), *names))


def find_side(name: str) -> Side:
    """The evaluation, and the model of it, that a path means.

    Raises:
        UserError: where neither the path nor a folder above it holds `hypotheses.jsonl`, or there is no such model.
    """
    path = Path(name)
    folder = next((one for one in (path, *path.parents) if (one / HYPOTHESES).is_file()), None)
    if folder is None:
        raise UserError(
            f"{name}: no evaluation; expected a folder that evaluate.py wrote (with {HYPOTHESES}), or FOLDER/MODEL for "
            "one of its models"
        )
    run, model = read_run(folder / HYPOTHESES), None if folder == path else path.relative_to(folder).as_posix()
    if model is not None and model not in run.models:
        there = ", ".join(run.models)
        raise UserError(f"{folder} holds no model {model!r}{nearest(model, run.models)}; there are: {there}")
    return Side(folder, model, run)


def _matched(ours: Side, theirs: Side) -> list[tuple[str, str]]:
    """The models to compare: the one of each side, else those that both have."""
    if ours.folder.resolve() == theirs.folder.resolve() and ours.model == theirs.model:
        raise UserError(
            f"both sides are {ours.folder}: name two of its models, {ours.folder}/MODEL; "
            f"there are: {', '.join(ours.run.models)}"
        )
    here, there = ours.models, theirs.models
    if len(here) == len(there) == 1:
        return [(here[0], there[0])]
    shared = [(model, model) for model in here if model in there]
    if not shared:
        raise UserError(
            f"{ours.folder} and {theirs.folder} share no model; name one of each as FOLDER/MODEL. The first has "
            f"{', '.join(here)}, the second {', '.join(there)}"
        )
    return shared


def _scores(
    ours: Side, theirs: Side, one: str, other: str, profile: str
) -> tuple[Mapping[str, SetScore], Mapping[str, SetScore]]:
    here, there = ours.run.models[one], theirs.run.models[other]
    names = [name for name in here if name in there]
    if not names:
        raise UserError(f"{one} and {other} share no test set: {', '.join(here)} and {', '.join(there)}")
    return tuple({name: score_set(by_set[name], profile) for name in names} for by_set in (here, there))


def _averaged(folder: Path) -> dict[str, Any]:
    """The seen and unseen pairs of an evaluation."""
    try:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: scores.get(name, []) for name in ("seen", "unseen")}

"""Two evaluations, or two models of one, test set by test set: paired differences, and what changed most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from common.errors import UserError, nearest
from common.input_files import RECORDS
from common.json_lines import read_object
from common.printing import console, visible
from scoring.contributions import UtteranceToScore
from scoring.results import SetScore, compare, differences, error_rates, score_set
from scoring.summary import comparison_summary, overview
from scoring.transcript_files import read_run

HYPOTHESES = "hypotheses.jsonl"


@dataclass(frozen=True)
class Side:
    """What one side of a comparison names: an evaluation's transcripts, and which of its models to compare."""

    folder: Path
    profile: str
    scored: Mapping[str, Mapping[str, Sequence[UtteranceToScore]]]
    models: Sequence[str]


def compare_runs(first: str, second: str, profile: str | None = None) -> None:
    """Print the comparison of two sides, each an evaluation's folder or `FOLDER/MODEL`.

    Where a side names no model and has several, the models of the same name on both sides are compared.

    Args:
        first: an evaluation's folder, or `FOLDER/MODEL`.
        second: the other side.
        profile: to score both with; None takes the evaluations' own.

    Raises:
        UserError: where a side is no evaluation, they share no model or test set, or their utterances differ.
    """
    ours, theirs = find_side(first), find_side(second)
    if profile is None and ours.profile != theirs.profile:
        raise UserError(
            f"{ours.folder} was scored with the profile {ours.profile}, {theirs.folder} with {theirs.profile}; "
            "name one with --profile"
        )
    screen = console()
    for one, other in _matched(ours, theirs):
        names = one, other
        if ours.folder != theirs.folder:
            names = f"{ours.folder.name}/{one}", f"{theirs.folder.name}/{other}"
        screen.rule(Text(f"{visible(names[0])} minus {visible(names[1])}"), style="dim")
        split = profile or ours.profile
        here, there = _scores(ours, theirs, one, other, split)
        pairs = _averaged(ours.folder)
        for figure in ("mer", "tolerant"):
            rates = error_rates(here, **pairs, figure=figure), error_rates(there, **pairs, figure=figure)
            screen.print(overview(*rates, differences(here, there, **pairs, figure=figure), *names, split, figure))
        for name in here:
            screen.rule(Text(visible(name)), style="dim")
            screen.print(comparison_summary(*compare(here[name], there[name]), *names))


def find_side(name: str) -> Side:
    """Return the evaluation that a path names, with the models of it to compare.

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
    profile, models = read_run(folder / HYPOTHESES)
    chosen = list(models) if folder == path else [path.relative_to(folder).as_posix()]
    if chosen[0] not in models:
        there = f"{nearest(chosen[0], models)}; there are: {', '.join(models)}"
        raise UserError(f"{folder} holds no model {chosen[0]!r}{there}")
    return Side(folder, profile, models, chosen)


def _matched(ours: Side, theirs: Side) -> list[tuple[str, str]]:
    """Return the pairs of models to compare: the only one of each side, else those that both sides have."""
    here, there = ours.models, theirs.models
    if ours.folder.resolve() == theirs.folder.resolve() and here == there:
        known = f"{ours.folder}/MODEL; there are: {', '.join(ours.scored)}"
        raise UserError(f"both sides are {ours.folder}: name two of its models, {known}")
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
    here, there = ours.scored[one], theirs.scored[other]
    names = [name for name in here if name in there]
    if not names:
        raise UserError(f"{one} and {other} share no test set: {', '.join(here)} and {', '.join(there)}")
    return tuple({name: score_set(by_set[name], profile) for name in names} for by_set in (here, there))


def _averaged(folder: Path) -> dict[str, Any]:
    """The seen and unseen pairs of an evaluation."""
    file = folder / "scores.json"
    scores = read_object(file, "an evaluation's scores", RECORDS) if file.exists() else {}
    found = {name: scores.get(name, []) for name in ("seen", "unseen")}
    if not all(isinstance(pairs, list) and all(isinstance(pair, str) for pair in pairs) for pairs in found.values()):
        raise UserError(f"{file}: seen or unseen is no list of pairs; expected the file as evaluate.py wrote it")
    return found

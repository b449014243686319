"""How much a study's rows differ, with a paired bootstrap's interval over utterances and seeds.

As in Bisani and Ney (ICASSP 2004) and `scoring.bootstrap`, utterances are drawn with replacement, the same ones for all
models and seeds. Then the seeds are drawn with replacement, too, since another run of training gives another model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from scoring.bootstrap import Estimate, difference, mean, resample, tally
from workflow.collect import Collected

Rates = dict[tuple[str, int, str], Estimate]  # by model, seed and test set
_Counts = tuple[int, int]  # errors and tokens


@dataclass(frozen=True)
class Difference:
    """A row's error rates less another's, by the name of the average."""

    model: str
    other: str
    by_average: Mapping[str, Estimate]


def differences(collected: Collected) -> list[Difference]:
    """Return the differences that the study asks for, in its rows' order.

    Raises:
        UserError: where a seed's hypotheses are missing, or are not of the same utterances as another's.
    """
    study = collected.study
    rows, others = study.compared
    if not others:
        return []
    averages = {name: sets for name, sets in collected.averages.items() if sets}
    rates = _rates(collected, {*rows, *others}, [name for sets in averages.values() for name in sets])
    return [
        Difference(
            model, other, {name: _over_seeds(rates, model, other, sets, study.seeds) for name, sets in averages.items()}
        )
        for other in others
        for model in rows
        if model != other
    ]


def _over_seeds(rates: Rates, model: str, other: str, sets: Sequence[str], seeds: Sequence[int]) -> Estimate:
    by_seed = [mean([difference(rates[model, s, of], rates[other, s, of]) for of in sets]) for s in seeds]
    draws = np.stack([estimate.draws for estimate in by_seed])  # (seeds, draws)
    drawn = np.random.default_rng(0).integers(len(seeds), size=draws.shape)
    value = float(np.mean([estimate.value for estimate in by_seed]))
    return Estimate(value, np.take_along_axis(draws, drawn, axis=0).mean(0), by_seed[0].sample)


def _rates(collected: Collected, models: set[str], sets: Sequence[str]) -> Rates:
    """Return every rate with its draws; all models and seeds share the drawn utterances."""
    counts: dict[tuple[str, int, str], dict[str, _Counts]] = {}
    speakers: dict[tuple[str, str], str | None] = {}
    for folder, seed in collected.study.folders.items():
        for row in _rows(Path(collected.study.scored(folder)) / "hypotheses.jsonl"):
            if row["model"] in models and row["set"] in sets:
                errors = row["substitutions"] + row["deletions"] + row["insertions"]
                tokens = row["hits"] + row["substitutions"] + row["deletions"]
                counts.setdefault((row["model"], seed, row["set"]), {})[row["id"]] = (errors, tokens)
                speakers[row["set"], row["id"]] = row["speaker"]
    rates: Rates = {}
    for of in sets:
        of_set = {key[:2]: found for key, found in counts.items() if key[2] == of}
        ids = sorted(next(iter(of_set.values()), {}))
        for model in models:
            for seed in collected.study.seeds:
                if sorted(of_set.get((model, seed), {})) != ids or not ids:
                    raise UserError(
                        f"{model}, seed {seed}: scored on other utterances of {of} than other rows; "
                        "run the study's evaluation again"
                    )
        names = {f"{model} {seed}": (model, seed) for model, seed in of_set}
        utterances = [{name: of_set[key][one] for name, key in names.items()} for one in ids]
        found = resample(tally(utterances, ids, [speakers[of, one] for one in ids]))
        rates |= {(*key, of): found[name] for name, key in names.items()}
    return rates


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except OSError:
        raise UserError(f"{path}: is missing; the study is not complete, run its workflow again") from None

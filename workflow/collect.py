"""The scores of all seeds of a study: every figure of every model, by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import UserError
from scoring.table import MACRO, MICRO, SEEN, SINGLE, TOLERANT, UNSEEN, in_order, single_languages
from workflow.plan import BEST, Study, is_oracle

AVERAGINGS = (MICRO, TOLERANT, MACRO)


@dataclass(frozen=True)
class SeedRates:
    """An error rate of each seed, as fractions."""

    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.by_seed)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the seeds; None for one seed, and where no seed matters (the base)."""
        return statistics.stdev(self.by_seed) if len({*self.by_seed}) > 1 else None


@dataclass(frozen=True)
class Collected:
    """A study's figures: `figures[averaging][model][column]`; a column is a test set or an average."""

    study: Study
    groups: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Mapping[str, SeedRates]]]
    versions: Mapping[str, str]
    profile: str

    @cached_property
    def averages(self) -> dict[str, list[str]]:
        """The test sets of each average."""
        return averages(self.study)

    @property
    def columns(self) -> list[str]:
        """The columns of the table, in order."""
        return in_order(self.averages[SEEN], self.averages[UNSEEN], self.study.evaluation["test"])

    def figure(self, model: str, column: str, averaging: str = MICRO) -> SeedRates:
        """Return one figure.

        Args:
            model: a row of the table, or `best` for the column's lowest mean, oracles aside.
            column: a test set or an average.
            averaging: `micro` or `macro`.
        """
        return self.figures[averaging][self.best(column) if model == BEST else model][column]

    def best(self, column: str) -> str:
        """Return the model with the lowest mean, oracles aside."""
        contest = [model for model, group in self.groups.items() if not is_oracle(group)]
        return min(contest, key=lambda model: self.figure(model, column).mean)


def collect(study: Study) -> Collected:
    """Read every seed's `scores.json`.

    Raises:
        UserError: where a seed has none, or was scored otherwise than another seed or than the study says.
    """
    folders = [study.scored(folder) for folder in study.folders]
    scores = [_read(Path(folder) / "scores.json") for folder in folders]
    first, rows = scores[0], study.rows(study.seeds[0])
    for folder, found in zip(folders, scores, strict=True):
        for key in ("profile", "decoding", "seen", "unseen"):
            if found[key] != first[key]:
                raise UserError(f"{folder}: {key} is {found[key]!r}, another seed's {first[key]!r}; score both alike")
        if missing := [row["name"] for row in rows if row["name"] not in found["models"]]:
            raise UserError(f"{folder}/scores.json: has no {', '.join(missing)}; run the study's evaluation again")
    figures = {
        averaging: {
            row["name"]: _figures(study, [found["models"][row["name"]]["sets"] for found in scores], averaging)
            for row in rows
        }
        for averaging in AVERAGINGS
        if all(
            averaging in of for found in scores for model in found["models"].values() for of in model["sets"].values()
        )
    }
    order = list(dict.fromkeys(row["group"] for row in rows))
    groups = {row["name"]: row["group"] for row in sorted(rows, key=lambda row: order.index(row["group"]))}
    return Collected(study, groups, figures, first["versions"], first["profile"])


def averages(study: Study) -> dict[str, list[str]]:
    """Return the test sets of each average: of seen pairs, unseen pairs and single languages."""
    seen, unseen = (list(study.evaluation.get(which, [])) for which in (SEEN, UNSEEN))
    return {SEEN: seen, UNSEEN: unseen, SINGLE: single_languages(study.evaluation["test"], (*seen, *unseen))}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path}: is missing; the study is not complete, run its workflow again") from None


def _figures(study: Study, by_seed: Sequence[dict[str, Any]], averaging: str) -> dict[str, SeedRates]:
    figures = {name: SeedRates(tuple(sets[name][averaging] for sets in by_seed)) for name in study.evaluation["test"]}
    for average, sets in averages(study).items():
        if sets:
            rates = zip(*(figures[name].by_seed for name in sets), strict=True)
            figures[average] = SeedRates(tuple(map(statistics.fmean, rates)))
    return figures

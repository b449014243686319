"""The scores of all seeds of a study: every figure of every model, by seed."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.input_files import RECORDS
from common.json_lines import read_object
from scoring.table import MACRO, MICRO, SEEN, TOLERANT, UNSEEN, in_order, is_oracle
from workflow.plan import BEST, Study

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

    @property
    def columns(self) -> list[str]:
        """The columns of the table, in order."""
        return in_order(self.study.averages[SEEN], self.study.averages[UNSEEN], self.study.evaluation["test"])

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
    files = [finished(Path(study.scored(folder), "scores.json")) for folder in study.folders]
    scores = [read_object(file, "an evaluation's scores", RECORDS) for file in files]
    first, rows = scores[0], study.rows(study.seeds[0])
    for file, found in zip(files, scores, strict=True):
        for key in ("profile", "decoding", "seen", "unseen"):
            if found[key] != first[key]:
                other = f"another seed's {first[key]!r}"
                raise UserError(f"{file.parent}: {key} is {found[key]!r}, {other}; score both alike")
        if missing := [row["name"] for row in rows if row["name"] not in found["models"]]:
            raise UserError(f"{file}: has no {', '.join(missing)}; run the study's evaluation again")
    by_model = {row["name"]: [found["models"][row["name"]]["sets"] for found in scores] for row in rows}
    figures = {
        averaging: {model: _figures(study, by_seed, averaging) for model, by_seed in by_model.items()}
        for averaging in AVERAGINGS
        if all(averaging in rates for by_seed in by_model.values() for sets in by_seed for rates in sets.values())
    }
    order = list(dict.fromkeys(row["group"] for row in rows))
    groups = {row["name"]: row["group"] for row in sorted(rows, key=lambda row: order.index(row["group"]))}
    return Collected(study, groups, figures, first["versions"], first["profile"])


def finished(path: Path) -> Path:
    """Return the path of a file that the workflow writes.

    Raises:
        UserError: where it has not been written yet.
    """
    if not path.is_file():
        raise UserError(f"{path}: is missing; the study is not complete, run its workflow again")
    return path


def _figures(study: Study, by_seed: list[Mapping[str, Mapping[str, float]]], averaging: str) -> dict[str, SeedRates]:
    figures = {name: SeedRates(tuple(sets[name][averaging] for sets in by_seed)) for name in study.evaluation["test"]}
    for average, sets in study.averages.items():
        if sets:
            rates = zip(*(figures[name].by_seed for name in sets), strict=True)
            figures[average] = SeedRates(tuple(map(statistics.fmean, rates)))
    return figures

"""The scores of all seeds of a study: every figure of every model, by seed, and how much rows differ."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.input_files import RECORDS
from common.json_lines import read_object, read_rows
from scoring.bootstrap import Estimate, difference, mean, resample, tally
from scoring.table import MACRO, MICRO, SEEN, TOLERANT, UNSEEN, in_order, is_oracle
from workflow.plan import BEST, Study

AVERAGINGS = (MICRO, TOLERANT, MACRO)

Rates = dict[tuple[str, int, str], Estimate]  # by model, seed and test set
Differences = dict[tuple[str, str], dict[str, Estimate]]  # a row's error rates minus another's, by average


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
    rules: Sequence[str] = ()  # of the script-tolerant figures

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
        UserError: where a seed has none, or was scored differently from another seed or from the study.
    """
    files = [finished(Path(study.scored(folder), "scores.json")) for folder in study.folders]
    scores = [read_object(file, "an evaluation's scores", RECORDS) for file in files]
    first, rows = scores[0], study.rows(study.seeds[0])
    for file, found in zip(files, scores, strict=True):
        for key in ("profile", "tolerant_rules", "decoding", "seen", "unseen"):
            if found.get(key) != first.get(key):
                other = f"another seed's {first.get(key)!r}"
                raise UserError(f"{file.parent}: {key} is {found.get(key)!r}, {other}; score both alike")
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
    return Collected(study, groups, figures, first["versions"], first["profile"], first.get("tolerant_rules", ()))


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


def differences(collected: Collected) -> Differences:
    """Return the differences that the study asks for, in its rows' order, by a paired bootstrap.

    As in Bisani and Ney (ICASSP 2004) and `scoring.bootstrap`, utterances are drawn with replacement, the same ones for
    all models and seeds. Then the seeds are drawn with replacement, too, since another run of training gives another
    model.

    Raises:
        UserError: where a seed's hypotheses are missing, or are not of the same utterances as another's.
    """
    study = collected.study
    if not study.compare.to:
        return {}
    averages = {name: sets for name, sets in study.averages.items() if sets}
    models = {*study.compared, *study.compare.to}
    rates = _rates(collected.study, models, [name for sets in averages.values() for name in sets])
    return {
        (model, other): {name: _over_seeds(rates, model, other, of, study.seeds) for name, of in averages.items()}
        for other in study.compare.to
        for model in study.compared
        if model != other
    }


def _over_seeds(rates: Rates, model: str, other: str, sets: Sequence[str], seeds: Sequence[int]) -> Estimate:
    by_seed = [mean([difference(rates[model, s, of], rates[other, s, of]) for of in sets]) for s in seeds]
    draws = np.stack([estimate.draws for estimate in by_seed])  # (seeds, draws)
    drawn = np.random.default_rng(0).integers(len(seeds), size=draws.shape)
    value = float(np.mean([estimate.value for estimate in by_seed]))
    return Estimate(value, np.take_along_axis(draws, drawn, axis=0).mean(0), by_seed[0].sample)


def _rates(study: Study, models: set[str], sets: Sequence[str]) -> Rates:
    """Return every rate with its draws; all models and seeds share the drawn utterances."""
    counts: dict[str, dict[tuple[str, int], dict[str, tuple[int, int]]]] = {of: {} for of in sets}  # errors and tokens
    speakers: dict[tuple[str, str], str | None] = {}
    for folder, seed in study.folders.items():
        for _, row in read_rows(finished(Path(study.scored(folder), "hypotheses.jsonl"))):
            if row["model"] in models and row["set"] in counts:
                wrong = row["substitutions"] + row["deletions"]
                found = counts[row["set"]].setdefault((row["model"], seed), {})
                found[row["id"]] = (wrong + row["insertions"], wrong + row["hits"])
                speakers[row["set"], row["id"]] = row["speaker"]
    rates: Rates = {}
    for of, by_model in counts.items():
        ids = sorted(next(iter(by_model.values()), {}))
        for model, seed in itertools.product(models, study.seeds):
            if not ids or sorted(by_model.get((model, seed), {})) != ids:
                raise UserError(
                    f"{model}, seed {seed}: scored on other utterances of {of} than other rows; "
                    "run the study's evaluation again"
                )
        names = {f"{model} {seed}": (model, seed) for model, seed in by_model}
        utterances = [{name: by_model[key][one] for name, key in names.items()} for one in ids]
        estimates = resample(tally(utterances, ids, [speakers[of, one] for one in ids]))
        rates |= {(*key, of): estimates[name] for name, key in names.items()}
    return rates

"""How much a study's rows differ, with a paired bootstrap's interval over utterances and seeds.

As in Bisani and Ney (ICASSP 2004) and `scoring.bootstrap`, utterances are drawn with replacement, the same ones for all
models and seeds. Then the seeds are drawn with replacement, too, since another run of training gives another model.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.json_lines import read_rows
from scoring.bootstrap import Estimate, difference, mean, resample, tally
from workflow.collect import Collected, finished
from workflow.plan import Study

Rates = dict[tuple[str, int, str], Estimate]  # by model, seed and test set
Differences = dict[tuple[str, str], dict[str, Estimate]]  # a row's error rates less another's, by average


def differences(collected: Collected) -> Differences:
    """Return the differences that the study asks for, in its rows' order.

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

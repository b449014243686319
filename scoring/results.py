"""The scores of models on test sets: every figure with its interval, the results table, and two models compared."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from common.errors import UserError
from scoring.bootstrap import FOLDS, LEVEL, SEED, Estimate, Tallies, difference, mean, resample, tally
from scoring.contributions import ScoredUtterance, UtteranceToScore, contributions, score_transcript
from scoring.metrics import Score
from scoring.table import SEEN, SINGLE, TOLERANT, UNSEEN, Row, Table, single_languages
from scoring.tokens import get_profile
from scoring.tolerant import rules_on


@dataclass(frozen=True)
class SetScore:
    """One model on one test set."""

    profile: str
    utterances: tuple[ScoredUtterance, ...]

    @cached_property
    def score(self) -> Score:
        """The mixed error rate alone."""
        return Score(self.profile, tuple(utterance.counts for utterance in self.utterances))

    @property
    def tolerant(self) -> float:
        """The script-tolerant mixed error rate, micro."""
        return sum(utterance.tolerance.errors for utterance in self.utterances) / self.score.counts.reference_tokens

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every figure by name, with its bootstrap draws; see `scoring.contributions.contributions`."""
        return resample(self.tallies)

    @property
    def drawn(self) -> str:
        """What the intervals are drawn over, and what they do not cover."""
        if self.tallies.unit == "speaker":
            return "speakers"
        speakers = {utterance.transcript.speaker for utterance in self.utterances}
        number = len(speakers) if len(speakers) > 1 else "one"
        these = "" if None in speakers else f" than the {number} here"
        return f"utterances, which does not cover other speakers{these}"

    @cached_property
    def tallies(self) -> Tallies:
        """The sums behind the figures, by utterance or speaker."""
        transcripts = [utterance.transcript for utterance in self.utterances]
        ids, speakers = [item.id for item in transcripts], [item.speaker for item in transcripts]
        return tally(map(contributions, self.utterances), ids, speakers)


def score_set(transcripts: Sequence[UtteranceToScore], profile: str = "cjk") -> SetScore:
    """Score one model on one test set, with all breakdowns.

    Args:
        transcripts: references and hypotheses.
        profile: how transcripts become tokens.

    Raises:
        UserError: where there is no utterance, an id stands twice, or a reference holds no token.
    """
    if not transcripts:
        raise UserError("there is no utterance to score")
    twice = [name for name, times in Counter(item.id for item in transcripts).items() if times > 1]
    if twice:
        raise UserError(f"the id {twice[0]!r} stands twice; ids must be unique within a test set")
    splitter = get_profile(profile)
    return SetScore(profile, tuple(score_transcript(item, splitter) for item in transcripts))


def to_dict(result: SetScore) -> dict[str, Any]:
    """Return the figures for JSON; rates are fractions, what is undefined is null."""
    counts = result.score.counts
    return {
        "profile": result.profile,
        "utterances": len(result.utterances),
        "reference_tokens": counts.reference_tokens,
        **counts._asdict(),
        "micro": result.score.micro,
        "macro": result.score.macro,
        TOLERANT: result.tolerant,
        "script-error": result.score.micro - result.tolerant,
        "tolerant_rules": list(rules_on()),
        "interval": {"level": LEVEL, "folds": FOLDS, "unit": result.tallies.unit, "seed": SEED},
        "figures": {
            name: estimate_to_dict(one, "numerator", "denominator") for name, one in sorted(result.estimates.items())
        },
    }


def estimate_to_dict(estimate: Estimate, *sums: str) -> dict[str, float | None]:
    """Return value and interval for JSON, and the `sums` named, numerator and denominator; null where not defined."""
    names = ("value", "low", "high", *sums)
    numbers = {name: getattr(estimate, name) for name in names}
    return {name: None if number is None or math.isnan(number) else number for name, number in numbers.items()}


Results = Mapping[str, Mapping[str, SetScore]]  # by model, then by test set


def having(results: Results, name: str) -> dict[str, SetScore]:
    """Return the scores on one test set of the models that were scored on it."""
    return {model: by_set[name] for model, by_set in results.items() if name in by_set}


def results_table(
    results: Results,
    groups: Mapping[str, str],
    *,
    seen: Sequence[str],
    unseen: Sequence[str],
    baseline: str | None = None,
) -> Table:
    """Lay results (by model, then by test set) out as a table, marking what differs significantly from `baseline`.

    Args:
        results: scores by model, then by test set.
        groups: each model's group.
        seen: pairs seen in training, averaged.
        unseen: pairs not seen, averaged.
        baseline: the model that the others are tested against.

    Raises:
        UserError: where the results are of several profiles.
    """
    profiles = {result.profile for by_set in results.values() for result in by_set.values()}
    if len(profiles) > 1:
        raise UserError(
            f"a table has one profile, found {', '.join(sorted(profiles))}; score all models again with one"
        )
    rows = []
    for model, by_set in results.items():
        against = {} if baseline in (None, model) else differences(by_set, results[baseline], seen, unseen)
        micro = {name: result.score.micro for name, result in by_set.items()}
        macro = {name: result.score.macro for name, result in by_set.items()}
        tolerant = {name: result.tolerant for name, result in by_set.items()}
        significant = frozenset(name for name, one in against.items() if one.significant)
        rows.append(Row(model, groups[model], micro, macro, tolerant, significant))
    return Table(profiles.pop() if profiles else "cjk", seen, unseen, rows, baseline, rules=rules_on())


def error_rates(
    by_set: Mapping[str, SetScore], seen: Sequence[str] = (), unseen: Sequence[str] = (), figure: str = "mer"
) -> dict[str, Estimate]:
    """Return a model's error rate by test set, and its means over seen pairs, unseen ones and single languages.

    Args:
        by_set: the model's scores by test set.
        seen: the pairs of the first average.
        unseen: the pairs of the second.
        figure: `mer`, or `tolerant` for the script-tolerant rate.
    """
    return _with_averages({name: result.estimates[figure] for name, result in by_set.items()}, seen, unseen)


def differences(
    ours: Mapping[str, SetScore],
    theirs: Mapping[str, SetScore],
    seen: Sequence[str] = (),
    unseen: Sequence[str] = (),
    figure: str = "mer",
) -> dict[str, Estimate]:
    """Return ours minus theirs in error rate, by the test sets that both have and by average.

    Args:
        ours: one model's scores by test set.
        theirs: another's.
        seen: the pairs of the first average.
        unseen: the pairs of the second.
        figure: `mer`, or `tolerant` for the script-tolerant rate.
    """
    by_set = {
        name: difference(ours[name].estimates[figure], theirs[name].estimates[figure])
        for name in ours
        if name in theirs
    }
    return _with_averages(by_set, seen, unseen)


def _with_averages(by_set: dict[str, Estimate], seen: Sequence[str], unseen: Sequence[str]) -> dict[str, Estimate]:
    return by_set | {
        average: mean([by_set[pair] for pair in pairs])
        for average, pairs in ((SEEN, seen), (UNSEEN, unseen), (SINGLE, single_languages(by_set, (*seen, *unseen))))
        if pairs and all(pair in by_set for pair in pairs)
    }


Changed = list[tuple[ScoredUtterance, ScoredUtterance]]


def compare(first: SetScore, second: SetScore) -> tuple[dict[str, Estimate], Changed]:
    """Return first minus second by figure, and the utterances with other hypotheses, the most changed first.

    Raises:
        UserError: where they were not scored on the same utterances with the same profile.
    """
    if first.profile != second.profile:
        raise UserError(f"the profiles differ: {first.profile} and {second.profile}; score one of them again")
    both = first.estimates.keys() & second.estimates.keys()
    differences = {name: difference(first.estimates[name], second.estimates[name]) for name in sorted(both)}
    pairs = zip(first.utterances, second.utterances, strict=True)
    changed = [(a, b) for a, b in pairs if a.transcript.hypothesis != b.transcript.hypothesis]
    changed.sort(key=lambda pair: -abs(pair[0].counts.errors - pair[1].counts.errors))
    return differences, changed

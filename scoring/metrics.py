"""The mixed error rate: integer counts, pooled over utterances (micro) or averaged over them (macro)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError
from common.manifest import Utterance
from scoring.edit_alignment import Counts, align
from scoring.tokens import get_profile


@dataclass(frozen=True, slots=True)
class Score:
    """A model's mixed error rate on one test set."""

    profile: str
    utterances: tuple[Counts, ...]

    @property
    def counts(self) -> Counts:
        """The counts of all utterances together."""
        return Counts(*map(sum, zip(*self.utterances, strict=True)))

    @property
    def micro(self) -> float:
        """All errors over all reference tokens, a fraction."""
        total = self.counts
        return total.errors / total.reference_tokens

    @property
    def macro(self) -> float:
        """The mean of the utterances' own rates, a fraction; summed exactly, so the order does not matter."""
        return math.fsum(counts.errors / counts.reference_tokens for counts in self.utterances) / len(self.utterances)


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    profile: str = "cjk",
    *,
    names: Sequence[str] | None = None,
) -> Score:
    """Score transcripts one by one.

    Args:
        references: the reference transcripts.
        hypotheses: one for each reference.
        profile: how transcripts become tokens.
        names: of the utterances, for messages.

    Raises:
        UserError: where the lists' lengths differ, there is no utterance, the profile is unknown, or a reference holds
            no token.
    """
    splitter = get_profile(profile)
    if len(references) != len(hypotheses):
        raise UserError(f"{len(references)} references but {len(hypotheses)} hypotheses; expected one of each")
    if not references:
        raise UserError("there is no utterance to score")
    utterances = []
    for index, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        tokens = splitter.reference(reference)
        if not tokens:
            name = names[index] if names is not None else f"utterance {index + 1}"
            raise empty_reference(name, reference, profile)
        utterances.append(align(tokens, splitter.hypothesis(hypothesis)).counts)
    return Score(profile, tuple(utterances))


def rates_by_pair(utterances: Sequence[Utterance], hypotheses: Sequence[str]) -> dict[str, float]:
    """Score each pair's utterances by themselves, and return the micro rates, profile `cjk`.

    Raises:
        UserError: as `score`.
    """
    by_pair: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for utterance, text in zip(utterances, hypotheses, strict=True):
        by_pair[utterance.pair].append((utterance.text, text, utterance.id))
    columns = {pair: list(zip(*rows, strict=True)) for pair, rows in by_pair.items()}
    return {pair: score(said, written, names=names).micro for pair, (said, written, names) in columns.items()}


def empty_reference(name: str, text: str, profile: str) -> UserError:
    """Return the error for a reference without tokens: it is a fault of the test set, not a score.

    Args:
        name: of the utterance.
        text: its reference.
        profile: that finds no token in it.
    """
    return UserError(
        f"{name}: the reference {text!r} holds no token in the profile {profile!r}; "
        "correct its transcript or drop the utterance"
    )

"""The alignment of an utterance, from which all its figures are counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

HIT, SUBSTITUTION, DELETION, INSERTION = "=", "S", "D", "I"
_LETTERS = {"equal": HIT, "replace": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}


class Counts(NamedTuple):
    """The integers behind an error rate; they add up over utterances."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_tokens(self) -> int:
        """The length of the reference, the rate's denominator."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_tokens(self) -> int:
        """The length of the hypothesis."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per reference token, a fraction that may exceed 1; None without reference tokens."""
        return self.errors / self.reference_tokens if self.reference_tokens else None


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two token sequences and a shortest sequence of edits from reference to hypothesis.

    `operations` has one letter for each step: `=` and `S` take a token of each side, `D` one of the reference, `I` one
    of the hypothesis.
    """

    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    operations: str

    @property
    def counts(self) -> Counts:
        """How many tokens were right, substituted, deleted and inserted."""
        count = self.operations.count
        return Counts(count(HIT), count(SUBSTITUTION), count(DELETION), count(INSERTION))

    def steps(self) -> Iterator[tuple[str, int | None, int | None]]:
        """Yield (operation, position in the reference, position in the hypothesis), None where a side has none."""
        i = j = 0
        for operation in self.operations:
            yield operation, None if operation == INSERTION else i, None if operation == DELETION else j
            i += operation != INSERTION
            j += operation != DELETION


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Align two token sequences by Levenshtein distance, ties broken as jiwer breaks them."""
    operations = (
        _LETTERS[edit.tag] * max(edit.src_end - edit.src_start, edit.dest_end - edit.dest_start)
        for edit in Levenshtein.opcodes(reference, hypothesis)
    )
    return Alignment(tuple(reference), tuple(hypothesis), "".join(operations))

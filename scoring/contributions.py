"""What an utterance adds to each figure, all from its one alignment.

Every figure is a ratio of two sums over utterances (errors over tokens, failures over utterances, ...), so that
pooling, intervals and differences work alike for all. An utterance adds nothing to a figure that is undefined for it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.code_mixing import LANGUAGE_SOURCES, UNKNOWN, code_mixing_index, find_switches, token_languages
from common.errors import UserError
from common.languages import language_by_script
from scoring.edit_alignment import DELETION, HIT, INSERTION, SUBSTITUTION, Alignment, Counts, align
from scoring.failures import FAILURES, find_failures
from scoring.loanwords import label_spellings
from scoring.metrics import empty_reference
from scoring.tokens import PROFILES, Profile, replace_loanwords
from scoring.tolerant import Tolerance, tolerate

Contributions = dict[str, tuple[float, float]]

OTHER = "other"  # tokens of no language: numbers, and what neither spans nor script decide
_MOST_TOKENS = 30_000  # more than anybody says in an hour
EDITS = {SUBSTITUTION: "substitutions", DELETION: "deletions", INSERTION: "insertions"}


@dataclass(frozen=True, slots=True)
class UtteranceToScore:
    """An utterance to score.

    `languages` are the pair's, by ISO 639-1 code; `matrix_language` is by default the first of them. `spans` are
    (language, text) in the order spoken, None where not known. `normalized` is the corpus's own normal form of the
    reference, which only a profile that takes labels uses. `loanwords` are its (native, borrowed) spellings and
    `transliterations` its (embedded, native) ones, for the script-tolerant count.
    """

    id: str
    reference: str
    hypothesis: str
    languages: tuple[str, ...] | None = None
    matrix_language: str | None = None
    spans: Sequence[tuple[str, str]] | None = None
    speaker: str | None = None
    loanwords: Sequence[tuple[str, str]] = ()
    normalized: str | None = None
    transliterations: Sequence[tuple[str, str]] = ()

    @property
    def matrix(self) -> str | None:
        """The language that the sentence is built in, all others being embedded; None where unknown."""
        return self.matrix_language or (self.languages or (None,))[0]


@dataclass(frozen=True, slots=True)
class ScoredUtterance:
    """An utterance after scoring.

    `languages` has one entry for each reference token, `source` says where they are from, `mixing` is the reference's
    CMI, `tolerance` has the script-tolerant errors.
    """

    transcript: UtteranceToScore
    alignment: Alignment
    languages: tuple[str | None, ...]
    source: str
    mixing: float | None
    failures: tuple[str, ...]
    tolerance: Tolerance

    @property
    def counts(self) -> Counts:
        """The alignment's counts."""
        return self.alignment.counts


def score_transcript(transcript: UtteranceToScore, profile: Profile) -> ScoredUtterance:
    """Align one utterance and find its tokens' languages.

    Raises:
        UserError: where the reference holds no token, or reference or hypothesis far too many.
    """
    text, reference = _reference(transcript, profile)
    hypothesis_text = transcript.hypothesis
    if profile.takes_labels:
        hypothesis_text = replace_loanwords(hypothesis_text, transcript.loanwords)
    hypothesis = _bounded(profile.hypothesis(hypothesis_text), transcript.id, "hypothesis")
    languages, source = token_languages(reference, transcript.languages, transcript.spans, profile.reference)
    alignment = align(reference, hypothesis)
    whole_words = PROFILES["cjk"].reference
    return ScoredUtterance(
        transcript,
        alignment,
        languages,
        source,
        code_mixing_index(text, languages, profile.reference),
        find_failures(reference, hypothesis, hypothesis_text, transcript.languages),
        tolerate(
            alignment,
            languages,
            transcript.matrix,
            transliterations=label_spellings(transcript.transliterations),
            loanwords=label_spellings(transcript.loanwords),
            words=(whole_words(text), whole_words(hypothesis_text)) if profile.name == "cer" else None,
        ),
    )


def check_references(transcripts: Iterable[UtteranceToScore], profile: Profile) -> None:
    """Refuse a test set before anything is transcribed for it.

    Raises:
        UserError: where a reference holds no token.
    """
    for transcript in transcripts:
        _reference(transcript, profile)


def _reference(transcript: UtteranceToScore, profile: Profile) -> tuple[str, list[str]]:
    text = transcript.reference
    if profile.takes_labels:
        text = replace_loanwords(transcript.normalized or text, transcript.loanwords)
    tokens = profile.reference(text)
    if not tokens:
        raise empty_reference(transcript.id, text, profile.name)
    return text, _bounded(tokens, transcript.id, "reference")


def _bounded(tokens: list[str], name: str, what: str) -> list[str]:
    """Return the tokens, if they are not too many for one utterance: time and memory grow with their square."""
    if len(tokens) > _MOST_TOKENS:
        more = f"has {len(tokens):,} tokens, expected no more than {_MOST_TOKENS:,} of an utterance; divide it"
        raise UserError(f"{name}: the {what} {more}")
    return tokens


def contributions(utterance: ScoredUtterance) -> Contributions:
    """Return what the utterance adds to each figure, as (numerator, denominator).

    Figures by position (PIER, distance, direction) count an insertion at the reference token after it, or at the end at
    the last token, as PIER does (Ugan et al., 2025); figures by language count it under its own language.
    """
    counts, edits = utterance.counts, _edits(utterance.alignment)
    tokens = counts.reference_tokens
    found: Contributions = {
        "mer": (counts.errors, tokens),
        "mer.macro": (counts.errors / tokens, 1),
        "tolerant": (utterance.tolerance.errors, tokens),
        "tolerant.macro": (utterance.tolerance.errors / tokens, 1),
        "script_error": (counts.errors - utterance.tolerance.errors, tokens),
        "length_ratio": (counts.hypothesis_tokens, tokens),
        **{name: (getattr(counts, name), tokens) for name in EDITS.values()},
        **{f"failure.{name}": (name in utterance.failures, 1) for name in FAILURES},
        **{f"languages_by.{name}": (name == utterance.source, 1) for name in LANGUAGE_SOURCES},
        **_by_language(utterance, edits),
    }
    if utterance.source != UNKNOWN:
        found |= _by_point_of_interest(utterance, edits) | _by_switch(utterance, edits)
    return found


@dataclass(frozen=True, slots=True)
class _Edit:
    """One error: where in the reference it counts, and the token that is wrong."""

    operation: str
    place: int
    token: str


def _edits(alignment: Alignment) -> list[_Edit]:
    edits = []
    place = 0
    for operation, i, j in alignment.steps():
        if operation == INSERTION:
            edits.append(_Edit(operation, min(place, len(alignment.reference) - 1), alignment.hypothesis[j]))
            continue
        place = i + 1
        if operation != HIT:
            edits.append(_Edit(operation, i, alignment.reference[i]))
    return edits


def _by_language(utterance: ScoredUtterance, edits: Sequence[_Edit]) -> Contributions:
    """Count substitutions and deletions by the reference token's language, insertions by the hypothesis token's.

    Where the script does not decide an inserted token's language (German and English), it is taken to be that of the
    reference token after it; `insertions_guessed` is the share of such insertions.
    """
    tokens = Counter(language or OTHER for language in utterance.languages)
    counted: Counter[tuple[str, str]] = Counter()
    guessed = 0
    for edit in edits:
        language = utterance.languages[edit.place]
        if edit.operation == INSERTION:
            own = language_by_script(edit.token, utterance.transcript.languages)
            guessed += own is None
            language = own or language
        counted[language or OTHER, edit.operation] += 1
    found: Contributions = {}
    for language in tokens.keys() | {language for language, _ in counted}:
        by_kind = {name: counted[language, operation] for operation, name in EDITS.items()}
        found[f"language.{language}"] = (sum(by_kind.values()), tokens[language])
        found |= {f"language.{language}.{name}": (number, tokens[language]) for name, number in by_kind.items()}
    if inserted := utterance.counts.insertions:
        found["insertions_guessed"] = (guessed, inserted)
    return found


def _by_point_of_interest(utterance: ScoredUtterance, edits: Sequence[_Edit]) -> Contributions:
    matrix, tokens = utterance.transcript.matrix, len(utterance.languages)
    embedded = {place for place, language in enumerate(utterance.languages) if language not in (None, matrix)}
    if matrix is None or not embedded:
        return {}
    inside = [edit for edit in edits if edit.place in embedded]
    return {
        "pier": (len(inside), len(embedded)),
        "pier.rest": (len(edits) - len(inside), tokens - len(embedded)),
        "embedded_deletion": (sum(edit.operation == DELETION for edit in inside), len(embedded)),
    }


def _by_switch(utterance: ScoredUtterance, edits: Sequence[_Edit]) -> Contributions:
    switches = find_switches(utterance.languages)
    found: Contributions = {"switches": (switches.count, 1)}
    if utterance.mixing is not None:
        found["cmi"] = (utterance.mixing, 1)
    if not switches.count:
        return found
    errors = Counter(edit.place for edit in edits)
    for place, (distance, direction) in enumerate(zip(switches.distances, switches.directions, strict=True)):
        names = [f"distance.{distance}"] + ([f"direction.{direction}"] if distance == 0 else [])
        for name in names:
            wrong, tokens = found.get(name, (0, 0))
            found[name] = (wrong + errors[place], tokens + 1)
    return found

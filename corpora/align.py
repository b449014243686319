"""`prepare.py align`: find the start and end times of spans, with an aligner that locates the text in the audio."""

import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from common.audio import load_waveform, speech_edges
from common.errors import UserError
from common.languages import JAPANESE_BORDER, language_by_script, script
from common.manifest import Span, Utterance, read_manifest, write_manifest
from common.progress_meter import progress
from corpora.derived import about, check_own_manifest, earlier_manifests, write_record

_COMMAND = "align"
_SHORTEST_S = 0.04  # two encoder positions; a shorter word was most likely misaligned
_BATCH = 16  # utterances encoded at once
_SPACE = re.compile(r"\s+")
# A Korean noun of two or more syllables and its particle; verb endings that look like a particle are split off, too.
_KOREAN_PARTICLE = re.compile(r"([가-힣]{2,}?)((?:에서|에게|한테|까지|부터|으로|이랑|[을를이가은는에와과로도의])\W*)")


class Switch(NamedTuple):
    """The time in seconds at which one span ends and the next begins, and its score: 1 is certain, 0 a guess."""

    time_s: float
    score: float


class NotAlignable(Exception):
    """An utterance cannot be aligned; equal reasons have equal messages, so that they can be counted."""


class Aligner(Protocol):
    """Find the times at which a speaker switches languages."""

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> dict[int, Tensor]:
        """Prepare for the utterances, each with its spans; return the encoder states computed on the way, by index."""

    def encode(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Turn a batch of waveforms, each (S,), into the states (T, D) that `switches` reads."""

    def switches(self, states_TD: Tensor, spans: Sequence[Span], text: str) -> list[Switch]:
        """Find the switch between each span of an utterance's text and the next.

        Raises:
            NotAlignable: where the sound cannot hold the text.
        """


@dataclass
class Report:
    """The result of aligning manifests; `errors_ms` compares it with times that the manifests already had."""

    utterances: int
    left_out: Counter[str]
    errors_ms: list[float]

    @property
    def aligned(self) -> int:
        """How many utterances have times."""
        return self.utterances - self.left_out.total()

    def lines(self) -> list[str]:
        """The report for the terminal."""
        lines = [f"{self.aligned} of {self.utterances} utterances aligned"]
        lines += [f"  left without times: {count} {reason}" for reason, count in self.left_out.most_common()]
        if len(self.errors_ms) > 1:
            sizes = sorted(map(abs, self.errors_ms))
            ninth = statistics.quantiles(sizes, n=10, method="inclusive")[-1]
            errors = f"median error {statistics.median(sizes):.0f} ms, 90th percentile {ninth:.0f} ms"
            bias = f"bias {statistics.median(self.errors_ms):+.0f} ms"
            lines.append(f"  {len(sizes)} switches of known times: {errors}, {bias}")
        return lines


def align(
    manifests: Sequence[Path],
    out: Path,
    aligner: Aligner,
    least_score: float,
    words: bool = False,
    made_by: Mapping[str, Any] | None = None,
) -> Report:
    """Write `<out>/<folder's name>/<manifest's name>` with span times for each manifest; audio stays where it is.

    An utterance that cannot be aligned, or has a switch that scores less than `least_score`, keeps spans without times.
    With `words` each word becomes a span, except that words stay joined where the border between them scores less.
    `corpus.json`, beside the manifests, records the sources, the aligner (`made_by`) and the result.

    Args:
        manifests: what to align.
        out: the folder to write to.
        aligner: what finds the switches.
        least_score: the lowest score of a switch; with a lower one, the utterance is left without times.
        words: whether each word becomes a span.
        made_by: what `corpus.json` records about the aligner.

    Raises:
        UserError: where a manifest or audio cannot be read, two manifests would be written to the same file, or
            the folder holds another corpus.
    """
    places = {manifest: out / manifest.absolute().parent.name / manifest.name for manifest in manifests}
    taken = Counter(places.values())
    for manifest, place in places.items():
        if taken[place] > 1 or place.absolute() == manifest.absolute():
            raise UserError(f"{manifest}: would be written to {place}, which is taken; choose another --out")
    records = {place.parent: earlier_manifests(place.parent, command=_COMMAND) for place in places.values()}
    jobs = {manifest: [_job(utterance, words) for utterance in read_manifest(manifest)] for manifest in manifests}
    for manifest, place in places.items():
        if place.name not in records[place.parent]:
            check_own_manifest(place, next((job.utterance.id for job in jobs[manifest]), ""))
    every = [job for of_manifest in jobs.values() for job in of_manifest]
    possible = [job for job in every if not job.reason]
    known = aligner.prepare([(job.utterance, job.spans) for job in possible])
    for index, waveform_S, states_TD in encoded(aligner, [job.utterance for job in possible], "aligning", known):
        job = possible[index]
        try:
            job.switches = aligner.switches(states_TD, job.spans, job.utterance.text) if len(job.spans) > 1 else []
            job.edges_s = speech_edges(waveform_S)
        except NotAlignable as error:
            job.reason = str(error)
    made = {**(made_by or {}), "words": words, "least_score": least_score}
    for manifest, place in places.items():
        rows = [_aligned(job, least_score) for job in jobs[manifest]]
        write_manifest(place, rows)
        report = _report(jobs[manifest])
        made |= {"source": str(manifest), "aligned": report.aligned, "left_out": dict(report.left_out)}
        records[place.parent][place.name] = about(rows, **made)
    for folder, of_manifests in records.items():
        write_record(folder, folder.name, _COMMAND, of_manifests)
    return _report(every)


@dataclass
class _Job:
    """An utterance, the spans that need times, the switches between them, and where speech begins and ends.

    `reason` says why the utterance is left without times, and `errors_ms` how far switches are from earlier times.
    """

    utterance: Utterance
    spans: list[Span] = field(default_factory=list)
    reason: str = ""
    switches: list[Switch] = field(default_factory=list)
    edges_s: tuple[float, float] = (0.0, 0.0)
    errors_ms: list[float] = field(default_factory=list)


def _job(utterance: Utterance, words: bool) -> _Job:
    try:
        spans = language_spans(utterance)
        spans = [word for span in spans for word in span_words(span)] if words else spans
        letters(spans)
    except NotAlignable as error:
        return _Job(utterance, reason=str(error))
    return _Job(utterance, spans)


def _report(jobs: Sequence[_Job]) -> Report:
    left_out = Counter(job.reason for job in jobs if job.reason)
    return Report(len(jobs), left_out, [error_ms for job in jobs for error_ms in job.errors_ms])


def encoded(
    aligner: Aligner, utterances: Sequence[Utterance], title: str, known: Mapping[int, Tensor] | None = None
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each utterance's index, waveform (S,) and states (T, D), shortest first: in batches with little padding.

    Args:
        aligner: what encodes.
        utterances: what to encode.
        title: of the work, for the progress meter.
        known: states by index that need not be computed again; they are yielded last, and each is then freed.
    """
    found = dict(known or {})
    order = sorted(range(len(utterances)), key=lambda index: (index in found, utterances[index].duration))
    fresh, old = order[: len(order) - len(found)], order[len(order) - len(found) :]
    batches = [part[begin : begin + _BATCH] for part in (fresh, old) for begin in range(0, len(part), _BATCH)]
    for batch in progress(batches, title, len(utterances), len):
        waveforms = [load_waveform(u.audio, u.offset, u.duration) for u in (utterances[index] for index in batch)]
        states = [found.pop(index) for index in batch] if batch[0] in found else aligner.encode(waveforms)
        yield from zip(batch, waveforms, states, strict=True)


def _aligned(job: _Job, least_score: float) -> Utterance:
    utterance, spans, found, (begin_s, end_s) = job.utterance, job.spans, job.switches, job.edges_s
    if not spans:
        untimed = utterance.spans and tuple(replace(span, start=None, end=None) for span in utterance.spans)
        return replace(utterance, spans=untimed)
    if not job.reason:
        is_switch = [before.language != after.language for before, after in pairwise(spans)]
        switches = [switch for switch, counts in zip(found, is_switch, strict=True) if counts]
        known = [b.start for a, b in pairwise(utterance.spans or ()) if a.language != b.language]
        if len(known) == len(switches):
            found_and_known = zip(switches, known, strict=True)
            job.errors_ms = [1000 * (s.time_s - start_s) for s, start_s in found_and_known if start_s is not None]
        if any(switch.score < least_score for switch in switches):
            job.reason = f"with a switch that scores under {least_score:g}"
    if job.reason:
        return replace(utterance, spans=tuple(_joined(spans, utterance.text)))
    times_s = [begin_s, *(switch.time_s for switch in found), end_s]
    borders = [round(min(max(time_s, begin_s), end_s), 4) for time_s in times_s]
    timed = [replace(span, start=a, end=b) for span, (a, b) in zip(spans, pairwise(borders), strict=True)]
    is_short = [b - a < _SHORTEST_S for a, b in pairwise(borders)]
    around = enumerate(zip(found, pairwise(is_short), strict=True), start=1)
    unsure = {i for i, (switch, short) in around if switch.score < least_score or any(short)}
    return replace(utterance, spans=tuple(_joined(timed, utterance.text, unsure)))


def _joined(spans: Sequence[Span], text: str, unsure: Collection[int] | None = None) -> list[Span]:
    """Join neighbouring spans of one language, at the `unsure` borders only, or at all of them if it is None."""
    found: list[Span] = []
    before = 0
    for index, (span, (begin, end)) in enumerate(zip(spans, places(spans, text), strict=True)):
        if found and found[-1].language == span.language and (unsure is None or index in unsure):
            found[-1] = replace(found[-1], end=span.end, text=f"{found[-1].text}{text[before:begin]}{span.text}")
        else:
            found.append(span)
        before = end
    return found


def places(spans: Iterable[Span], text: str) -> Iterator[tuple[int, int]]:
    """Yield the character positions at which each span begins and ends in the text, without white space around it."""
    position = 0
    for span in spans:
        written = (span.text or "").strip()
        begin = max(text.find(written, position), position)
        position = begin + len(written)
        yield begin, position


def span_words(span: Span) -> list[Span]:
    """Split a span into words at white space, in Japanese by script; particles after nouns become words."""
    border, space = (JAPANESE_BORDER, "") if span.language == "ja" else (_SPACE, " ")
    words: list[str] = []
    opening = ""  # punctuation before the first word
    for word in border.split((span.text or "").strip()):
        bound = _KOREAN_PARTICLE.fullmatch(word) if span.language == "ko" else None
        if any(map(str.isalnum, word)):
            words += bound.groups() if bound else [word]
        elif words:
            words[-1] += space + word
        else:
            opening += word + space
    words[:1] = [opening + first for first in words[:1]] or [opening.strip()]
    return [Span(span.language, text=word) for word in words]


def language_spans(utterance: Utterance) -> list[Span]:
    """The utterance's spans without times, found by script where the corpus gives none.

    Raises:
        NotAlignable: where neither spans nor scripts separate the languages.
    """
    if utterance.spans and all(span.text and span.text.strip() for span in utterance.spans):
        return [Span(span.language, text=span.text) for span in utterance.spans]
    language, owners = None, []
    for character in utterance.text:
        if script(character):
            language = language_by_script(character, utterance.languages)
            if language is None:
                raise NotAlignable("with letters of no language or of several")
        owners.append(language)
    if language is None:
        raise NotAlignable("without letters")
    first = next(owner for owner in owners if owner)
    runs = groupby(zip(owners, utterance.text, strict=True), key=lambda item: item[0] or first)
    return [Span(owner, text="".join(character for _, character in run).strip()) for owner, run in runs]


def letters(spans: Iterable[Span]) -> tuple[list[str], list[int]]:
    """The letters and digits of all spans in lower case, and the index of each span's first one.

    Raises:
        NotAlignable: where a span has none.
    """
    spoken: list[str] = []
    begins: list[int] = []
    for span in spans:
        begins.append(len(spoken))
        spoken += [letter for letter in (span.text or "").casefold() if letter.isalnum()]
        if len(spoken) == begins[-1]:
            raise NotAlignable("with a span without letters")
    return spoken, begins

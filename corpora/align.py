"""`prepare.py align`: gives spans their times, by an aligner that finds letters in sound."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from common.audio import SAMPLE_RATE_HZ, load_waveform
from common.errors import UserError
from common.languages import script, scripts_of
from common.manifest import Span, Utterance, read_manifest, write_manifest
from common.progress_meter import progress
from corpora.derived import about, earlier_record, write_record

_COMMAND = "align"
_FRAME = SAMPLE_RATE_HZ // 100
_SILENCE = 10 ** (-40 / 20)  # of the loudest frame
_KEPT_S = 0.05  # of silence at an utterance's ends
_SHORTEST_S = 0.04  # two positions of the encoder: a word of less was hardly found
_BATCH = 16  # utterances encoded at once
_SPACE = re.compile(r"\s+")
# Japanese writes no spaces: hiragana gives way to kanji, katakana or Latin, or a particle stands between such words.
_JAPANESE_BORDER = re.compile(
    r"\s+|(?<=[ぁ-ん。、？！])(?=[^ぁ-ん。、？！ー\s])"
    r"|(?<=[^ぁ-ん。、？！\s])(?=(?:から|まで|には|では|とは|での|との|[をはがにでとのへもや])(?![ぁ-ん]))"
)
# A Korean noun of two syllables or more and its particle; endings of verbs that look like one are cut off, too.
_KOREAN_PARTICLE = re.compile(r"([가-힣]{2,}?)((?:에서|에게|한테|까지|부터|으로|이랑|[을를이가은는에와과로도의])\W*)")


class Switch(NamedTuple):
    """When a span gives way to the next, in seconds, and how sure that is: 1 is certain, 0 a guess."""

    time_s: float
    score: float


class NotAlignable(Exception):
    """Why an utterance cannot be aligned, in words that are the same for all of a kind."""


class Aligner(Protocol):
    """Find when a speaker switches."""

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> None:
        """Get ready for the utterances to align, with their spans, before the first is aligned."""

    def encode(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Turn a batch of waveforms, each (S,), into the states (T, D) that `switches` reads."""

    def switches(self, states_TD: Tensor, spans: Sequence[Span]) -> list[Switch]:
        """Find the switch between each span and the next.

        Raises:
            NotAlignable: where the sound cannot hold the text.
        """


@dataclass
class Report:
    """What came of aligning manifests; `errors_ms` are against times that were known before."""

    utterances: int = 0
    aligned: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    errors_ms: list[float] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count another report in."""
        self.utterances += other.utterances
        self.aligned += other.aligned
        self.left_out += other.left_out
        self.errors_ms += other.errors_ms

    def lines(self) -> list[str]:
        """The report for the terminal."""
        lines = [f"{self.aligned} of {self.utterances} utterances aligned"]
        lines += [f"  left without times: {count} {reason}" for reason, count in self.left_out.most_common()]
        if len(self.errors_ms) > 1:
            sizes = sorted(map(abs, self.errors_ms))
            ninth = statistics.quantiles(sizes, n=10, method="inclusive")[-1]
            lines.append(
                f"  {len(sizes)} switches of known times: median error {statistics.median(sizes):.0f} ms, "
                f"90th percentile {ninth:.0f} ms, bias {statistics.median(self.errors_ms):+.0f} ms"
            )
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
    With `words` each word is a span of its own, but for those whose border scores less. Beside the manifests,
    `corpus.json` keeps what was aligned, by what (`made_by`), and what came of it.

    Args:
        manifests: what to align.
        out: the folder to write to.
        aligner: what finds the switches.
        least_score: of a switch, below which the utterance is left without times.
        words: whether each word becomes a span.
        made_by: what `corpus.json` keeps of the aligner.

    Raises:
        UserError: where a manifest or audio cannot be read, two manifests would be written to one place, or another
            corpus lies there.
    """
    places = {manifest: out / manifest.absolute().parent.name / manifest.name for manifest in manifests}
    taken = Counter(places.values())
    for manifest, place in places.items():
        if taken[place] > 1 or place.absolute() == manifest.absolute():
            raise UserError(f"{manifest}: would be written to {place}, which is taken; choose another --out")
    records = {place.parent: earlier_record(place.parent, _COMMAND) for place in places.values()}
    read = {manifest: read_manifest(manifest) for manifest in manifests}
    known = [_with_spans(utterance, words) for utterances in read.values() for utterance in utterances]
    aligner.prepare([(utterance, spans) for utterance, spans, _ in known if spans])
    whole, timed = Report(), iter(_timed(known, aligner))
    how = dict(made_by or {}) | {"words": words, "least_score": least_score}
    for manifest, utterances in read.items():
        report, place = Report(utterances=len(utterances)), places[manifest]
        rows = [_aligned(*next(timed), least_score, report) for _ in utterances]
        write_manifest(place, rows)
        came = {"aligned": report.aligned, "left_out": dict(report.left_out)}
        records[place.parent][place.name] = about(rows, source=str(manifest), **how, **came)
        whole.add(report)
    for folder, of_manifests in records.items():
        write_record(folder, folder.name, _COMMAND, of_manifests)
    return whole


class _Known(NamedTuple):
    """An utterance, its spans to time, and why there are none."""

    utterance: Utterance
    spans: list[Span]
    reason: str


class _Found(NamedTuple):
    """The switches of an utterance and where its speech begins and ends, or why it cannot be aligned."""

    switches: list[Switch] = []
    edges_s: tuple[float, float] = (0.0, 0.0)
    reason: str = ""


def _with_spans(utterance: Utterance, words: bool) -> _Known:
    try:
        spans = language_spans(utterance)
        spans = [word for span in spans for word in span_words(span)] if words else spans
        letters(spans)
    except NotAlignable as reason:
        return _Known(utterance, [], str(reason))
    return _Known(utterance, spans, "")


def _timed(known: Sequence[_Known], aligner: Aligner) -> list[tuple[_Known, _Found]]:
    """Find all switches, in batches of utterances of like length, so that little is padding."""
    order = sorted((i for i, item in enumerate(known) if item.spans), key=lambda i: known[i].utterance.duration)
    batches = [order[begin : begin + _BATCH] for begin in range(0, len(order), _BATCH)]
    found: dict[int, _Found] = {}
    for batch in progress(batches, "aligning, batches", len(batches)):
        utterances = [known[index].utterance for index in batch]
        waveforms = [load_waveform(item.audio, item.offset, item.duration) for item in utterances]
        for index, waveform_S, states_TD in zip(batch, waveforms, aligner.encode(waveforms), strict=True):
            spans = known[index].spans
            try:
                switches = aligner.switches(states_TD, spans) if len(spans) > 1 else []
                found[index] = _Found(switches, speech_edges(waveform_S))
            except NotAlignable as error:
                found[index] = _Found(reason=str(error))
    return [(item, found.get(index, _Found(reason=item.reason))) for index, item in enumerate(known)]


def _aligned(known: _Known, result: _Found, least_score: float, report: Report) -> Utterance:
    utterance, spans, _ = known
    if not spans:
        report.left_out[result.reason] += 1
        spans = utterance.spans and tuple(replace(span, start=None, end=None) for span in utterance.spans)
        return replace(utterance, spans=spans)
    untimed = replace(utterance, spans=tuple(_joined(spans, utterance.text)))
    if result.reason:
        report.left_out[result.reason] += 1
        return untimed
    found, (begin_s, end_s) = result.switches, result.edges_s
    is_switch = [before.language != after.language for before, after in pairwise(spans)]
    report.errors_ms += _errors_ms(utterance, [s for s, switches in zip(found, is_switch, strict=True) if switches])
    if any(s.score < least_score for s, switches in zip(found, is_switch, strict=True) if switches):
        report.left_out[f"with a switch that scores under {least_score:g}"] += 1
        return untimed
    report.aligned += 1
    borders = [begin_s, *(min(max(switch.time_s, begin_s), end_s) for switch in found), end_s]
    timed = [replace(s, start=round(a, 4), end=round(b, 4)) for s, (a, b) in zip(spans, pairwise(borders), strict=True)]
    unsure = {i for i, switch in enumerate(found, start=1) if switch.score < least_score}
    unsure |= {i for i in range(1, len(timed)) if min(_length_s(timed[i - 1]), _length_s(timed[i])) < _SHORTEST_S}
    return replace(utterance, spans=tuple(_joined(timed, utterance.text, unsure)))


def _joined(spans: Sequence[Span], text: str, unsure: Collection[int] | None = None) -> list[Span]:
    """The spans, those of one language joined where the border before them is unsure, or everywhere."""
    found: list[Span] = []
    position = 0
    for index, span in enumerate(spans):
        begin = max(text.find((span.text or "").strip(), position), position)
        gap, position = text[position:begin], begin + len((span.text or "").strip())
        if found and found[-1].language == span.language and (unsure is None or index in unsure):
            found[-1] = replace(found[-1], end=span.end, text=f"{found[-1].text}{gap}{span.text}")
        else:
            found.append(span)
    return found


def _length_s(span: Span) -> float:
    return (span.end or 0.0) - (span.start or 0.0)


def _errors_ms(utterance: Utterance, found: Sequence[Switch]) -> Iterator[float]:
    known = [after.start for before, after in pairwise(utterance.spans or ()) if before.language != after.language]
    if len(known) == len(found):
        yield from (1000 * (s.time_s - start) for s, start in zip(found, known, strict=True) if start is not None)


def span_words(span: Span) -> list[Span]:
    """A span's words, by white space, in Japanese by script; particles of Japanese and Korean nouns alone."""
    border, space = (_JAPANESE_BORDER, "") if span.language == "ja" else (_SPACE, " ")
    words: list[str] = []
    opening = ""  # punctuation before the first word
    for word in border.split((span.text or "").strip()):
        if not any(map(str.isalnum, word)):
            if words:
                words[-1] += space + word
            else:
                opening += word + space
        elif span.language == "ko" and (bound := _KOREAN_PARTICLE.fullmatch(word)):
            words += bound.groups()
        else:
            words.append(word)
    words[:1] = [opening + first for first in words[:1]] or [opening.strip()]
    return [Span(span.language, text=word) for word in words]


def language_spans(utterance: Utterance) -> list[Span]:
    """The utterance's spans without times; by script where the corpus gives none.

    Raises:
        NotAlignable: where neither spans nor scripts separate the languages.
    """
    if utterance.spans and all(span.text and span.text.strip() for span in utterance.spans):
        return [Span(span.language, text=span.text) for span in utterance.spans]
    language, owners = None, []
    for character in utterance.text:
        if written := script(character):
            fitting = [of for of in utterance.languages if written in scripts_of(of)]
            if len(fitting) != 1:
                raise NotAlignable("with letters of no language or of several")
            language = fitting[0]
        owners.append(language)
    if language is None:
        raise NotAlignable("without letters")
    first = next(owner for owner in owners if owner)
    runs = groupby(zip(owners, utterance.text, strict=True), key=lambda item: item[0] or first)
    return [Span(owner, text="".join(character for _, character in run).strip()) for owner, run in runs]


def letters(spans: Iterable[Span]) -> tuple[list[str], list[int]]:
    """The letters and digits that are spoken of the texts, in lower case, and where each span's begin among them.

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


def speech_edges(waveform_S: Tensor) -> tuple[float, float]:
    """Where speech begins and ends, in seconds, with 50 ms around it: what is within 40 dB of the loudest 10 ms."""
    whole_s = len(waveform_S) / SAMPLE_RATE_HZ
    levels = [frame.square().mean().sqrt() for frame in waveform_S.split(_FRAME)]
    loud = (torch.stack(levels) > _SILENCE * max(levels)).nonzero().flatten().tolist() or [0, len(levels)]
    return max(0.0, loud[0] / 100 - _KEPT_S), min(whole_s, (loud[-1] + 1) / 100 + _KEPT_S)

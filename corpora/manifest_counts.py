"""What a manifest holds, counted one utterance at a time: hours, durations, tokens by language, switches, CMI."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import regex

from common.code_mixing import UNKNOWN, code_mixing_index, find_switches, token_languages
from common.languages import script, scripts_of
from common.manifest import Utterance, iter_manifest
from scoring.tokens import PROFILES

TABLE_HEADER = ("manifest", "utterances", "length", "speakers", "tokens", "switches", "CMI")
SURPRISES_SHOWN = 5
OTHER = "other"  # tokens of none of the pair's languages: numbers, a third script
_PLAIN = regex.compile(r"[\p{M}\p{Z}\p{N}\p{P}\p{Sc}%+&=°′″]")
_NOTATION = set("*/\\{}[]<>|_#@^~()\N{REPLACEMENT CHARACTER}")  # more often annotation marks than punctuation
tokens_of = PROFILES["cjk"].reference
DURATION_EDGES_S = (1, 2, 5, 10, 20, 30)
_BINS = ("< 1", "1-2", "2-5", "5-10", "10-20", "20-30", ">= 30")


@dataclass
class ManifestCounts:
    """Running counts over utterances; memory grows with the speakers and the alphabet, not with the utterances."""

    utterances: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    shortest_s: float = math.inf
    pairs: Counter[str] = field(default_factory=Counter)
    durations: Counter[int] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str | None] = field(default_factory=Counter)
    with_spans: int = 0
    tagged: int = 0
    switches: int = 0
    cmi_sum: float = 0.0
    surprises: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> Self:
        """Count all of some utterances."""
        counts = cls()
        for utterance in utterances:
            counts.add(utterance)
        return counts

    def add(self, utterance: Utterance) -> None:
        """Count one utterance."""
        self.utterances += 1
        self.pairs[utterance.pair] += 1
        self.seconds += utterance.duration
        self.longest_s = max(self.longest_s, utterance.duration)
        self.shortest_s = min(self.shortest_s, utterance.duration)
        self.durations[sum(utterance.duration >= edge for edge in DURATION_EDGES_S)] += 1
        self.with_spans += utterance.spans is not None
        self.speakers[utterance.speaker] += 1
        tokens = tokens_of(utterance.text)
        spans = [(span.language, span.text) for span in utterance.spans or () if span.text is not None]
        whole = len(spans) == len(utterance.spans or ())
        languages, source = token_languages(tokens, utterance.languages, spans if whole else None, tokens_of)
        for token, language in zip(tokens, languages, strict=True):
            is_of_pair = any(script(token) in scripts_of(one) for one in utterance.languages)
            self.tokens[language or (UNKNOWN if is_of_pair else OTHER)] += 1
        mixing = code_mixing_index(utterance.text, languages, tokens_of)
        if source != UNKNOWN and mixing is not None:
            self.tagged += 1
            self.cmi_sum += mixing
            self.switches += find_switches(languages).count
        for char in surprises(utterance.text, utterance.languages):
            count, example = self.surprises.get(char, (0, utterance.id))
            self.surprises[char] = (count + 1, example)

    @property
    def named_speakers(self) -> int:
        """How many speakers have names."""
        return len(self.speakers.keys() - {None})

    def as_dict(self) -> dict[str, Any]:
        """The counts for `corpus.json`; what cannot be known is null."""
        return {
            "utterances": self.utterances,
            "hours": round(self.seconds / 3600, 4),
            "speakers": self.named_speakers or None,
            "utterances_without_speaker": self.speakers[None],
            "pairs": dict(self.pairs),
            "duration_s": {
                "shortest": round(self.shortest_s, 3) if self.utterances else None,
                "mean": round(self.seconds / self.utterances, 3) if self.utterances else None,
                "longest": round(self.longest_s, 3) if self.utterances else None,
                "histogram": {name: self.durations[index] for index, name in enumerate(_BINS)},
            },
            "tokens_by_language": dict(self.tokens.most_common()),
            "utterances_with_spans": self.with_spans,
            "switches": self.switches if self.tagged else None,
            "cmi_mean": round(self.cmi_sum / self.tagged, 2) if self.tagged else None,
            "utterances_of_unknown_languages": self.utterances - self.tagged,
            "alphabet_surprises": [
                {"character": char, "name": character_name(char), "utterances": count, "example": example}
                for char, (count, example) in self._ranked_surprises()
            ],
        }

    def cells(self) -> list[str]:
        """The main counts, in the order of `TABLE_HEADER`; switches are the mean per utterance."""
        tokens = ", ".join(f"{name} {count:,}" for name, count in self.tokens.most_common())
        switches = f"{self.switches / self.tagged:.2f}" if self.tagged else "unknown"
        cmi = f"{self.cmi_sum / self.tagged:.1f}" if self.tagged else "unknown"
        return [f"{self.utterances:,}", lasting(self.seconds), str(self.named_speakers or "?"), tokens, switches, cmi]

    def lines(self) -> list[str]:
        """The counts as lines for the terminal."""
        speakers = counted(self.named_speakers, "speaker") if self.named_speakers else "speakers not named"
        each = f"{self.shortest_s:.1f} to {self.longest_s:.1f} s each"
        utterances, length, _, tokens, switches, cmi = self.cells()
        values = {"utterances": [f"{utterances}, {length} in all, {each}, {speakers}"]}
        values |= {"durations": self._histogram(), "tokens": [tokens]}
        if self.tagged:
            values |= {"switches": [f"{self.switches:,}, {switches} an utterance"], "CMI": [cmi]}
        if unknown := self.utterances - self.tagged:
            reason = "one script for both, and the corpus gives no spans"
            values["languages"] = [f"unknown in {counted(unknown, 'utterance')}: {reason}"]
        values["surprises"] = self._surprises()
        return [f"  {'' if i else label:<11} {line}" for label, lines in values.items() for i, line in enumerate(lines)]

    def _histogram(self) -> list[str]:
        most = max(self.durations.values())
        counts = [(_BINS[i], self.durations[i]) for i in range(min(self.durations), max(self.durations) + 1)]
        return [f"{name:>5} s {'█' * math.ceil(32 * count / most):<32} {count:,}" for name, count in counts]

    def _ranked_surprises(self) -> list[tuple[str, tuple[int, str]]]:
        return sorted(self.surprises.items(), key=lambda item: (-item[1][0], item[0]))

    def _surprises(self) -> list[str]:
        lines = []
        for char, (count, example) in self._ranked_surprises()[:SURPRISES_SHOWN]:
            is_visible = char.isprintable() and not unicodedata.combining(char)
            shown = f"{char!r} {character_name(char)}" if is_visible else character_name(char)
            lines.append(f"{shown} in {counted(count, 'utterance')}, first in {example}")
        more = len(self.surprises) - SURPRISES_SHOWN
        return lines + ([f"and {counted(more, 'character')} more, all in corpus.json"] if more > 0 else [])


def surprises(text: str, languages: tuple[str, ...]) -> set[str]:
    """Find characters that a transcript in these languages should not have: other scripts, control codes, notation."""
    scripts = {name for language in languages for name in scripts_of(language)}
    return {char for char in set(text) if char in _NOTATION or not (_PLAIN.match(char) or script(char) in scripts)}


def describe(folder: Path) -> list[str]:
    """Statistics of every manifest under a folder, as a table for the terminal."""
    rows = [TABLE_HEADER]
    for path in sorted(folder.rglob("*.jsonl")):
        rows.append((str(path), *ManifestCounts.of(iter_manifest(path, check_audio=False)).cells()))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    layout = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<>>><>>", widths, strict=True))
    return [layout.format(*row) for row in rows]


def counted(count: int, noun: str) -> str:
    """`1 utterance`, `2,000 utterances`."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def lasting(seconds: float) -> str:
    """`4.5 s`, `12.3 min`, `27.8 h`."""
    size, unit = (3600, "h") if seconds >= 3600 else (60, "min") if seconds >= 60 else (1, "s")
    return f"{seconds / size:,.1f} {unit}"


def character_name(char: str) -> str:
    """`U+002A ASTERISK`."""
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".strip()

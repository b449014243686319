"""The splicer: from an utterance and a seed to an utterance of another pair.

A Korean-English sentence whose English gives way to Japanese out of Japanese-English sentences is Korean-Japanese
speech: all of it was said, only the switches were not. Pairs grow quadratically with languages, the speech that
splicing needs linearly.

Shape suffixes: S samples at 16 kHz.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backbone.language_tags import Tokenizer
from common.audio import SAMPLE_RATE_HZ, load_cut
from common.errors import UserError, nearest
from common.manifest import Utterance, listed
from datamodules.skips import Skipped
from datamodules.splicing.fillers import FillerPool, Room
from datamodules.splicing.jitter import jittered
from datamodules.splicing.joining import overlap_add
from datamodules.splicing.patterns import Cut, Pattern, Slot, chain, frame, longest, transcript
from datamodules.splicing.spans import NotCuttable, Part, cut_parts
from datamodules.splicing.splice_options import Splicing

_PROMPT_TOKENS = 5  # of two language tags, and the text's end
_MOST_GAIN = 4.0  # 12 dB

Utterances = Mapping[str, Sequence[Utterance]]


class Splice(NamedTuple):
    """A spliced utterance before it sounds: transcript and spans, and what it is cut from."""

    utterance: Utterance
    cuts: tuple[Cut, ...]


class CrossPairSplicer:
    """Turns utterances into utterances of other pairs; the outcome is a function of utterance and seed alone.

    An utterance that cannot be cut (see `spans.cut_parts`), holds a span under `shortest_s`, or leaves no room in the
    model's window for a span of the other language is heard as it is.

    Args:
        options: how to splice.
        training: the utterances trained on, by pair.
        sources: the utterances to take spans from, by pair; those trained on where there are no others.
        tokenizer: the model's.
        window_s: seconds that the model holds.
        max_tokens: tokens that its decoder holds, prompt and all.

    Raises:
        UserError: where a pair cannot be made, saying why.
    """

    def __init__(
        self,
        options: Splicing,
        training: Utterances,
        sources: Utterances | None,
        tokenizer: Tokenizer,
        window_s: float,
        max_tokens: int,
    ) -> None:
        self.options = options
        self.tokenizer = tokenizer
        self.room = Room(int(window_s * SAMPLE_RATE_HZ), max_tokens - _PROMPT_TOKENS)
        self.fade = round(options.crossfade_s * SAMPLE_RATE_HZ / 2)
        self.gap = round(options.gap_s * SAMPLE_RATE_HZ)
        sources = sources or training
        moved = {pair: [jittered(one, options.jitter_s) for one in of] for pair, of in sources.items()}
        self.pool = FillerPool(moved, options.shortest_s, self._tokens, self.room)
        pairs = options.pairs or _unrecorded([*training, *sources])
        self.targets = {frozenset(pair.split("-")): pair for pair in pairs}
        self.left_out: dict[str, Counter[str]] = defaultdict(Counter)
        self.frames: Counter[str] = Counter()
        self._count_frames(training)
        self._check(training)

    def __call__(
        self, pair: str, utterance: Utterance, seed: int, tries: int = 1
    ) -> tuple[tuple[Utterance, Tensor] | None, tuple[Skipped, ...]]:
        """The spliced utterance and its waveform (S,), or None for a hearing of a pair's utterance as it is.

        Where the audio of an inserted span cannot be read, its utterance is told, and another draw made, up to `tries`.

        Raises:
            UserError: where the utterance's own audio cannot be read.
        """
        skipped: list[Skipped] = []
        for attempt in range(tries):
            splice = self.plan(pair, utterance, seed, attempt)
            if splice is None:
                break
            try:
                return (splice.utterance, self.sound(splice)), tuple(skipped)
            except _BrokenFiller as broken:
                skipped.append(broken.skipped)
        return None, tuple(skipped)

    def plan(self, pair: str, utterance: Utterance, seed: int, attempt: int = 0) -> Splice | None:
        """What to cut and join for a hearing; None where the utterance is heard as it is."""
        if random.Random(f"whether to splice {seed}").random() >= self.options.share_of(pair):
            return None
        utterance = jittered(utterance, self.options.jitter_s)
        try:
            parts = cut_parts(utterance, self.options.shortest_s)
        except NotCuttable:
            return None
        choices = self._choices(parts)
        if not choices:
            return None
        rng = random.Random(f"splice {seed} {attempt}")
        kept, other = rng.choice(choices)
        if self.options.pattern == "frame":
            pattern = frame(utterance, parts, kept, other, rng)
        else:
            pattern = chain(utterance, parts, kept, other, rng.randint(*self.options.spans), rng)
        cuts = self._filled(pattern, utterance.speaker, rng)
        return Splice(self._spoken(utterance, kept, other, cuts), cuts) if cuts else None

    def sound(self, splice: Splice) -> Tensor:
        """The waveform (S,) of a spliced utterance.

        Raises:
            UserError: where audio cannot be read.
        """
        pieces_S = self._pieces(splice.cuts)
        if self.options.loudness:
            pairs = list(zip(splice.cuts, pieces_S, strict=True))
            level = _level(torch.cat([piece_S for cut, piece_S in pairs if cut.part and not cut.filler]))
            pieces_S = [piece_S * _gain(piece_S, level) if cut.filler else piece_S for cut, piece_S in pairs]
        return overlap_add(pieces_S, self.fade, self.gap)

    def summary(self) -> dict[str, Any]:
        """What a run's record keeps: how many utterances can be frames, how many spans there are, what was left out."""
        return {
            "frames": dict(self.frames),
            "spans": self.pool.counts(),
            "left_out": {pair: dict(reasons) for pair, reasons in self.left_out.items()},
        }

    # ------------------------------------------------------------------------------------------------------------------

    def _choices(self, parts: Sequence[Part]) -> list[tuple[str, str]]:
        """The languages to keep, each with those that can be put beside it."""
        languages = dict.fromkeys(part.language for part in parts)
        if self.options.pattern == "frame" and len(languages) == 1 and not parts[0].pieces:
            return []
        return [
            (kept, other)
            for kept in languages
            for other in self.pool.languages
            if (target := self.targets.get(frozenset((kept, other)))) and self._keeps(target, kept)
        ]

    def _keeps(self, target: str, kept: str) -> bool:
        first = target.split("-")[0] == kept
        return {"first": first, "second": not first, "both": True}[self.options.matrix]

    def _filled(self, pattern: Pattern, speaker: str | None, rng: random.Random) -> tuple[Cut, ...] | None:
        """The pattern with a filler in each slot, or None where the window cannot hold it."""
        room = self.room.without(Room(self.gap * (len(pattern) - 1), 0))
        for item in pattern:
            is_slot = isinstance(item, Slot)
            room = room.without(self.pool.least(item.language) if is_slot else self._size(item))
        if not room.holds(Room(0, 0)):
            return None
        cuts: list[Cut] = []
        for item in pattern:
            if isinstance(item, Slot):
                room = room.plus(self.pool.least(item.language))
                filler = self.pool.draw(item.language, room, rng, speaker if self.options.same_speaker else None)
                room = room.without(filler.size)
                item = item.taking(filler)
            cuts.append(item)
        return tuple(cuts)

    def _size(self, cut: Cut) -> Room:
        return Room(cut.end - cut.begin, self._tokens(cut.part.text) if cut.part else 0)

    def _tokens(self, text: str) -> int:
        """The tokens that a text takes with a space before it, which may be one more."""
        return len(self.tokenizer.encode(" " + text, add_special_tokens=False)) + 1

    def _spoken(self, utterance: Utterance, kept: str, other: str, cuts: Sequence[Cut]) -> Utterance:
        if self.options.pattern == "frame":
            matrix = kept if kept == utterance.matrix_language else other
        else:
            matrix = longest(cuts)
        text, spans = transcript(cuts, matrix, self.gap)
        samples = sum(cut.end - cut.begin + self.gap for cut in cuts) - self.gap
        sources = dict.fromkeys(cut.utterance for cut in cuts)
        return replace(
            utterance,
            id="+".join(source.id for source in sources),
            duration=samples / SAMPLE_RATE_HZ,
            offset=0.0,
            text=text,
            pair=self.targets[frozenset((kept, other))],
            matrix_language=matrix,
            spans=spans,
            source=listed(source.source for source in sources),
            source_sentence_id=None,
            licence=listed(source.licence for source in sources),
        )

    def _pieces(self, cuts: Sequence[Cut]) -> list[Tensor]:
        """Each cut's waveform with `fade` samples more on both sides; what is of the frame is read at once."""
        own = [cut for cut in cuts if not cut.filler]
        first = min(cut.begin for cut in own) - self.fade
        frame_S = load_cut(own[0].utterance, first, max(cut.end for cut in own) + self.fade)
        return [
            self._filler(cut) if cut.filler else frame_S[cut.begin - self.fade - first : cut.end + self.fade - first]
            for cut in cuts
        ]

    def _filler(self, cut: Cut) -> Tensor:
        try:
            return load_cut(cut.utterance, cut.begin - self.fade, cut.end + self.fade)
        except UserError as error:
            filler = cut.filler
            raise _BrokenFiller(Skipped(filler.pair, filler.index, filler.utterance.id, str(error))) from None

    def _count_frames(self, training: Utterances) -> None:
        for pair, utterances in training.items():
            for utterance in utterances:
                try:
                    parts = cut_parts(jittered(utterance, self.options.jitter_s), self.options.shortest_s)
                except NotCuttable as reason:
                    self.left_out[pair][str(reason)] += 1
                else:
                    self.frames.update({self.targets[frozenset(choice)] for choice in self._choices(parts)})

    def _check(self, training: Utterances) -> None:
        for pair in self.options.share if isinstance(self.options.share, dict) else ():
            if pair not in training:
                raise UserError(f"data.splice.share names {pair}, no pair trained on{nearest(pair, training)}")
        reasons = sum((*self.left_out.values(), *self.pool.left_out.values()), Counter())
        why = "; left out: " + ", ".join(f"{n} utterances {reason}" for reason, n in reasons.items()) if reasons else ""
        for pair in self.options.pairs or ():
            for language in pair.split("-"):
                if language not in self.pool.languages:
                    raise UserError(f"data.splice: no span of {language} to make {pair} of{why}{_hint(reasons)}")
            if not self.frames[pair]:
                raise UserError(
                    f"data.splice: no utterance to make {pair} of among {', '.join(training)}{why}{_hint(reasons)}"
                )
        if not self.frames:
            raise UserError(
                f"data.splice: no pair to make of {', '.join(training)} that is not among them; "
                f"name some in data.splice.pairs, or other speech in data.splice.sources{why}{_hint(reasons)}"
            )


class _BrokenFiller(Exception):
    def __init__(self, skipped: Skipped) -> None:
        super().__init__(skipped.reason)
        self.skipped = skipped


def _unrecorded(pairs: Iterable[str]) -> list[str]:
    """All pairs of the languages of some pairs, without those pairs, languages in the order of their appearance."""
    pairs = list(pairs)
    recorded = {frozenset(pair.split("-")) for pair in pairs}
    languages = dict.fromkeys(language for pair in pairs for language in pair.split("-"))
    return [f"{a}-{b}" for a, b in combinations(languages, 2) if frozenset((a, b)) not in recorded]


def _level(waveform_S: Tensor) -> float:
    return float(waveform_S.square().mean().sqrt())


def _gain(waveform_S: Tensor, level: float) -> float:
    own = _level(waveform_S)
    return min(max(level / own, 1 / _MOST_GAIN), _MOST_GAIN) if own else 1.0


def _hint(reasons: Counter[str]) -> str:
    return "; python prepare.py align finds spans and their times" if reasons else ""

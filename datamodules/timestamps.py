"""Timestamp tokens in the labels of a share of the training examples, so that a fine-tune goes on writing them.

Unless its prompt forbids it, Whisper writes when each part of a text begins and ends, to 20 ms (Radford et al. 2022,
section 2.3). Programs cut long recordings at these times: where fine-tuning unlearns them, they loop or drop speech.

Shape suffixes: S samples at 16 kHz.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from backbone.language_tags import Tokenizer, special_id
from common.audio import SAMPLE_RATE_HZ, speech_edges
from common.errors import UserError
from common.manifest import Utterance
from datamodules.splicing.stretches import NotCuttable, stretches

_PER_S = 50
_LAST = 1500  # the last of 1501, counted from 0: those of 0.00 to 30.00 s
_PROMPT_TOKENS = 4  # with two language tags
_REST_S = (0.1, 1.5)  # of silence between joined utterances

Part = tuple[float, float, str]  # begin and end in seconds, and a text with the white space before it


class PlayedUtterance(NamedTuple):
    """An utterance, its speech as recorded, and as it is played, perhaps faster or slower; both (S,)."""

    utterance: Utterance
    recorded_S: Tensor
    played_S: Tensor

    @property
    def tempo(self) -> float:
        """The factor by which it is played faster than recorded."""
        return len(self.recorded_S) / len(self.played_S)


class TimestampLabels:
    """Draws which examples have timestamps, joins further utterances to them, and writes their texts with the times.

    `<|0.12|>새<|0.64|><|0.64|> report를 썼어요.<|2.02|>`: when speech begins and ends, and where the spans have times,
    when the language switches, except for switches within a word, as before a Korean particle.

    Long recordings go through a model window by window, so a window holds many sentences, and its end may cut the last.
    Half of the examples imitate such windows: utterances are joined until one does not fit; that one is cut off, and
    only the time of its beginning is written (Radford et al. 2022, section 2.3). The others imitate the end of a
    recording: utterances are joined up to a random length.

    Args:
        share: of the examples that have timestamps, 0 to 1.
        tokenizer: the model's.
        window_s: seconds that the model holds.
        max_tokens: that its decoder holds, prompt included; a longer text gets no timestamps.

    Raises:
        UserError: where the tokenizer lacks timestamps.
    """

    def __init__(self, share: float, tokenizer: Tokenizer, window_s: float, max_tokens: int) -> None:
        self.share, self.tokenizer, self.room = share, tokenizer, max_tokens - _PROMPT_TOKENS
        self.window_samples = int(min(window_s, _LAST / _PER_S) * SAMPLE_RATE_HZ)
        try:
            self.first, last = (special_id(tokenizer, f"{tick / _PER_S:.2f}") for tick in (0, _LAST))
        except UserError:
            last = -1
        if last < 0 or last - self.first != _LAST:
            raise UserError(
                f"data.timestamps is {share:g}, but the model's tokenizer lacks Whisper's {_LAST + 1} timestamps, "
                f"<|0.00|> to <|{_LAST // _PER_S}.00|> in a row; leave the option out, or take another model.backbone"
            )

    def drawn(self, seed: int) -> bool:
        """Whether the example of this seed has timestamps."""
        return random.Random(f"timestamps {seed}").random() < self.share

    def join(self, first: PlayedUtterance, others: Iterable[PlayedUtterance], seed: int) -> tuple[list[int], Tensor]:
        """Join utterances, with rests between them, and write their texts with timestamps.

        Args:
            first: the utterance that the example is of.
            others: what may follow it; only as many are taken as are joined, and perhaps one more.
            seed: decides how many are joined, and how long the rests are.

        Returns:
            The tokens, none where the first utterance's times or tokens do not fit; and the waveform (S,).
        """
        tokens = self.tokens(first)
        if not tokens:
            return [], first.played_S
        rng = random.Random(f"join {seed}")
        sounds, samples = [first.played_S], len(first.played_S)
        cut_off = rng.random() < 0.5
        end = self.window_samples if cut_off else rng.randint(samples, max(samples, self.window_samples))
        for speech in others:
            rest = round(rng.uniform(*_REST_S) * SAMPLE_RATE_HZ)
            begin = samples + rest
            fits = begin + len(speech.played_S) <= end
            if begin >= end or not (fits or cut_off):
                break
            more = self.tokens(speech, begin) if fits else self._beginning(speech, begin, end)
            if len(tokens) + len(more) > self.room or (fits and not more):
                break
            tokens += more
            sounds += [torch.zeros(rest), speech.played_S[: end - begin]]
            samples = begin + len(sounds[-1])
            if not fits:
                break
        return tokens, torch.cat(sounds)

    def tokens(self, speech: PlayedUtterance, since: int = 0) -> list[int]:
        """The tokens of an utterance that begins at sample `since`; none if they do not fit or times are wrong."""
        edges_s = speech_edges(speech.recorded_S)
        whole = [(*edges_s, speech.utterance.text)]
        parts, since_s = _parts(speech.utterance, edges_s), since / SAMPLE_RATE_HZ
        return self._tokens(parts, speech.tempo, since_s) or self._tokens(whole, speech.tempo, since_s)

    def _beginning(self, speech: PlayedUtterance, since: int, end: int) -> list[int]:
        """The start timestamp of an utterance that is cut off at sample `end`; none if its speech starts later."""
        tick = round((since / SAMPLE_RATE_HZ + speech_edges(speech.recorded_S)[0] / speech.tempo) * _PER_S)
        return [self.first + tick] if tick / _PER_S < end / SAMPLE_RATE_HZ else []

    def _tokens(self, parts: Iterable[Part], tempo: float, since_s: float) -> list[int]:
        """The tokens of a text in parts; none where they are too many, or times are out of order once rounded."""
        tokens: list[int] = []
        before = 0
        for begin_s, end_s, text in parts:
            begin, end = (round((since_s + time_s / tempo) * _PER_S) for time_s in (begin_s, end_s))
            if not before <= begin < end <= _LAST:
                return []
            tokens += [self.first + begin, *self.tokenizer.encode(text, add_special_tokens=False), self.first + end]
            before = end
        return tokens if len(tokens) <= self.room else []


def _parts(utterance: Utterance, edges_s: tuple[float, float]) -> Iterator[Part]:
    """Yield the parts between switches; the whole as one part where times or texts of spans are missing or wrong."""
    begin_s, end_s = edges_s
    try:
        found = stretches(utterance)
    except NotCuttable:
        yield *edges_s, utterance.text
        return
    text, since_s = found[0].text, max(begin_s, found[0].words[0].start_s)
    for before, after in pairwise(found):
        if not (before.bound_after or after.bound_before):
            yield since_s, before.words[-1].end_s, text
            text, since_s = "", after.words[0].start_s
        text += after.words[0].space + after.text
    yield since_s, min(end_s, found[-1].words[-1].end_s), text

"""Timestamp tokens in the labels of a share of the training examples, so that a fine-tune goes on writing them.

Unless its prompt forbids it, Whisper writes when each part of a text begins and ends, to 20 ms (Radford et al. 2022,
section 2.3). Programs cut long recordings at these times: where fine-tuning unlearns them, they loop or drop speech.

Shape suffixes: S samples at 16 kHz.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

from torch import Tensor

from backbone.language_tags import Tokenizer, special_id
from common.audio import speech_edges
from common.errors import UserError
from common.manifest import Utterance
from datamodules.splicing.stretches import NotCuttable, stretches

_PER_S = 50
_LAST = 1500  # of 1501: those of 0.00 to 30.00 s
_PROMPT_TOKENS = 4  # with two language tags

Part = tuple[float, float, str]  # begin and end in seconds, and a text with the white space before it


class TimestampLabels:
    """Draws whether an example has timestamps, and writes its text with them.

    `<|0.12|>새<|0.64|><|0.64|> report를 썼어요.<|2.02|>`: when speech begins and ends, and where the spans have times,
    when the language switches, but for switches within a word, as before a Korean particle.

    Args:
        share: of the examples that have timestamps, 0 to 1.
        tokenizer: the model's.
        max_tokens: that its decoder holds, prompt included; a text that would be longer has none.

    Raises:
        UserError: where the tokenizer lacks timestamps.
    """

    def __init__(self, share: float, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.share, self.tokenizer, self.room = share, tokenizer, max_tokens - _PROMPT_TOKENS
        try:
            self.first, last = (special_id(tokenizer, f"{tick / _PER_S:.2f}") for tick in (0, _LAST))
        except UserError:
            last = -1
        if last < 0 or last - self.first != _LAST:
            raise UserError(
                f"data.timestamps is {share:g}, but the model's tokenizer lacks Whisper's {_LAST + 1} timestamps, "
                f"<|0.00|> to <|{_LAST // _PER_S}.00|> in a row; leave the option out, or take another model.backbone"
            )

    def __call__(self, utterance: Utterance, waveform_S: Tensor, tempo: float, seed: int) -> list[int]:
        """Return the tokens of the text with timestamps, or none where it has none.

        Args:
            utterance: its text and spans.
            waveform_S: its speech.
            tempo: how many times as fast it will be played.
            seed: decides whether it has timestamps.
        """
        if random.Random(f"timestamps {seed}").random() >= self.share:
            return []
        edges_s = speech_edges(waveform_S)
        whole = [(*edges_s, utterance.text)]
        return self._tokens(_parts(utterance, edges_s), tempo) or self._tokens(whole, tempo)

    def _tokens(self, parts: Iterable[Part], tempo: float) -> list[int]:
        """The tokens of a text in parts; none where they are too many, or times are out of order once rounded."""
        tokens: list[int] = []
        before = 0
        for begin_s, end_s, text in parts:
            begin, end = (round(time_s / tempo * _PER_S) for time_s in (begin_s, end_s))
            if not before <= begin < end <= _LAST:
                return []
            tokens += [self.first + begin, *self.tokenizer.encode(text, add_special_tokens=False), self.first + end]
            before = end
        return tokens if len(tokens) <= self.room else []


def _parts(utterance: Utterance, edges_s: tuple[float, float]) -> Iterator[Part]:
    """Yield what is spoken between switches; all at once where times or texts of the spans are missing or wrong."""
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

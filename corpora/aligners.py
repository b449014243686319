"""Two aligners that use a Whisper model: CTC on its encoder's states, and its decoder's cross-attention.

Shape suffixes: B utterances, S samples at 16 kHz, T encoder positions of 20 ms, L letters, U tokens, V distinct
letters, D width.
"""

import math
import random
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import forced_align, merge_tokens

from backbone.language_tags import prompt_ids
from backbone.log_mel import LogMel
from backbone.model_folder.read import read_model_folder
from backbone.token_times import POSITIONS_PER_S, token_times
from backbone.window import LONGEST, WHOLE, check_lengths, take_short_windows, window_of
from common.constants import SAMPLE_RATE_HZ
from common.manifest import Span, Utterance
from common.progress_meter import progress
from corpora.align import NotAlignable, Switch, encoded, letters, places

_BLANK = 0
_FIT_UTTERANCES = 600
_STEPS, _BATCH = 400, 16
_BESIDE = 2  # letters or tokens on each side of a switch, whose mean is its score


class _WhisperAligner:
    """Encode audio with a Whisper model, in the window that it was trained with."""

    def __init__(self, model: str, device: str = "cpu") -> None:
        self.whisper, self.processor = read_model_folder(model)
        self.whisper.to(device).eval()
        take_short_windows(self.whisper)
        self.log_mel = LogMel(self.processor.feature_extractor, window_of(None, self.whisper.config)).to(device)
        self.device = device

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> dict[int, Tensor]:
        """Use the model's whole window where an utterance is longer than the window that it was trained with.

        Raises:
            UserError: for an utterance longer than the whole window.
        """
        if any(utterance.duration > self.log_mel.window.seconds for utterance, _ in utterances):
            self.log_mel.window = window_of(WHOLE, self.whisper.config)
        check_lengths([utterance for utterance, _ in utterances], self.log_mel.window.seconds, "align")
        return {}

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Encoder states (T, D) of each waveform (S,), without those of padding."""
        mel_BFT = self.log_mel(pad_sequence(list(waveforms), batch_first=True).to(self.device))
        states_BTD = self.whisper.model.encoder(mel_BFT).last_hidden_state
        lengths = [math.ceil(len(waveform_S) * POSITIONS_PER_S / SAMPLE_RATE_HZ) for waveform_S in waveforms]
        return [states_TD[:length].clone() for states_TD, length in zip(states_BTD, lengths, strict=True)]


class CTCAligner(_WhisperAligner):
    """CTC forced alignment by a linear head on the frozen encoder, fitted to the transcripts that it then aligns.

    It needs no other model, no times and no common alphabet: the head learns the letters of any language in a minute.
    A switch is placed at the end of the CTC peak of the last letter before it, because peaks tend to come late in a
    sound. How late depends on the encoder, so check the reported bias on speech with known times.

    Args:
        model: model folder or Hub id of a Whisper.
        device: where it runs.
        seed: of the head and the order of fitting.
    """

    def __init__(self, model: str, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(model, device)
        self.seed = seed
        self.kinds: dict[str, int] = {}

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> dict[int, Tensor]:
        """Choose the window, and fit the head to a sample of the utterances, whose states are returned.

        Raises:
            UserError: for an utterance beyond the model's window.
        """
        super().prepare(utterances)
        if self.log_mel.window == window_of(WHOLE, self.whisper.config):
            self.log_mel.window = window_of(LONGEST, self.whisper.config)  # the head is fitted to what it will read
        texts = [letters(spans)[0] for _, spans in utterances]
        self.kinds = {letter: kind for kind, letter in enumerate(sorted(set().union(*texts)), start=_BLANK + 1)}
        rng = random.Random(self.seed)
        chosen = rng.sample(range(len(utterances)), min(_FIT_UTTERANCES, len(utterances)))
        chosen.sort(key=lambda index: utterances[index][0].duration)
        sample = encoded(self, [utterances[index][0] for index in chosen], "encoding")
        found = {chosen[place]: states_TD for place, _, states_TD in sample}
        features, labels = list(found.values()), [self._labels(texts[index]) for index in found]
        torch.manual_seed(self.seed)
        self.head = nn.Linear(self.whisper.config.d_model, len(self.kinds) + 1).to(self.device)
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=0.1 / self.whisper.config.d_model**0.5)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _STEPS)
        for _ in progress(range(_STEPS), "fitting", _STEPS):
            rows = rng.sample(range(len(chosen)), min(_BATCH, len(chosen)))
            loss = self._loss([features[row] for row in rows], [labels[row] for row in rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return found

    @torch.inference_mode()
    def switches(self, states_TD: Tensor, spans: Sequence[Span], text: str) -> list[Switch]:
        """Find the switch between each span and the next; its score is the letters' mean probability around it.

        Raises:
            NotAlignable: where there are more letters than positions.
        """
        spoken, begins = letters(spans)
        labels_L = self._labels(spoken)
        log_probabilities_TV = self.head(states_TD).log_softmax(-1)
        needed = len(labels_L) + int((labels_L[1:] == labels_L[:-1]).sum())  # CTC needs a blank between equal letters
        if needed > len(log_probabilities_TV):
            raise NotAlignable("with more text than sound")
        path, scores = forced_align(log_probabilities_TV[None].cpu(), labels_L[None].cpu(), blank=_BLANK)
        found = merge_tokens(path[0], scores[0], blank=_BLANK)
        switches = []
        for begin in begins[1:]:
            score = statistics.fmean(letter.score for letter in found[max(0, begin - _BESIDE) : begin + _BESIDE])
            switches.append(Switch(found[begin - 1].end / POSITIONS_PER_S, math.exp(score)))
        return switches

    def _labels(self, spoken: Sequence[str]) -> Tensor:
        return torch.tensor([self.kinds[letter] for letter in spoken], dtype=torch.int32)

    def _loss(self, features: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        log_probabilities_TBV = self.head(pad_sequence(list(features))).log_softmax(-1)
        lengths = [torch.tensor([len(row) for row in rows]) for rows in (features, labels)]
        targets = torch.cat(list(labels)).to(self.device)
        return functional.ctc_loss(log_probabilities_TBV, targets, *lengths, blank=_BLANK, zero_infinity=True)


class AttentionAligner(_WhisperAligner):
    """Token times from the decoder's cross-attention, found in the same way as word times in transcribing.

    Args:
        model: model folder or Hub id of a Whisper.
        device: where it runs.
    """

    def switches(self, states_TD: Tensor, spans: Sequence[Span], text: str) -> list[Switch]:
        """Find the switch between each span and the next; its score is the mean attention around it.

        Raises:
            NotAlignable: where the decoder cannot hold the text, or there are more tokens than positions.
        """
        tokenizer = self.processor.tokenizer
        prompt = prompt_ids(tokenizer, (spans[0].language,))
        tokens = tokenizer.encode(text, add_special_tokens=False)
        if len(prompt) + len(tokens) > self.whisper.config.max_target_positions:
            raise NotAlignable("with more text than sound")
        duration_s = len(states_TD) / POSITIONS_PER_S
        (times,) = token_times(self.whisper, tokenizer, states_TD[None], [prompt], [tokens], [duration_s])
        if times is None:
            raise NotAlignable("with more text than sound")
        switches = []
        for _, end in list(places(spans, text))[:-1]:
            token = times.tokens(0, end).stop
            score = statistics.fmean(times.attention[max(0, token - _BESIDE) : token + _BESIDE])
            switches.append(Switch(times.at(end), score))
        return switches

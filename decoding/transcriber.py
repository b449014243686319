"""Transcribe utterances in batches, each with its own language tags.

Shape suffixes: B utterances, N beams of all utterances, S samples at 16 kHz, U tokens, V vocabulary, T frames, D width.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.modeling_outputs import BaseModelOutput

from backbone.greedy import greedy
from backbone.guards import Guards, cut
from backbone.language_tags import language_id, prompt_ids, prompt_languages, special_id
from backbone.log_mel import LogMel
from backbone.window import FRAMES_PER_SECOND, Window, check_lengths, take_short_windows, window_of
from common.audio import SAMPLE_RATE_HZ, load_waveform
from common.errors import UserError
from common.manifest import Utterance

_OWN = (  # of a model's generation configuration, for the beam search
    "decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens",
    "begin_suppress_tokens",
)  # fmt: skip
_GUARDS = Guards()


class Engine(Protocol):
    """A model that can be decoded: in PyTorch, or by another program that reads a conversion of it.

    `encode` returns whatever the engine's own `detect` and `generate` take.
    """

    tokenizer: WhisperTokenizer
    window: Window

    def encode(self, waveforms_BS: Tensor) -> Any:
        """Encode zero-padded waveforms."""

    def detect(self, encoded: Any) -> list[str]:
        """The model's own language code for each utterance: its most probable first tag."""

    def generate(
        self, encoded: Any, prompt_BU: list[list[int]], most_B: Sequence[int], repeats: int
    ) -> list[list[int]]:
        """The tokens after the prompt, which is equally long for all.

        Args:
            encoded: what `encode` returned.
            prompt_BU: the prompts.
            most_B: one token more than so many is enough of each utterance.
            repeats: as in `Guards`; what follows a loop is not needed.
        """


@dataclass(frozen=True)
class Hypothesis:
    """What a model wrote, and what the guards cut of it: `length`, `repetition`, or nothing."""

    text: str
    cut: str | None = None


class Transcriber:
    """Transcribe utterances with one model; the result depends neither on batch size nor on order.

    Args:
        engine: the model.
        language: policy of the language tags; see `backbone.language_tags`, and `auto` for the model's own choice.
        batch_size: utterances decoded side by side.
        guards: against loops.
    """

    def __init__(
        self, engine: Engine, *, language: str = "matrix", batch_size: int = 32, guards: Guards = _GUARDS
    ) -> None:
        self.engine, self.guards = engine, guards
        self.language = language
        self.batch_size = batch_size

    def transcribe(
        self,
        utterances: Sequence[Utterance],
        name: str = "evaluation",
        done: Callable[[float], None] = lambda seconds: None,
    ) -> list[str]:
        """Return transcripts in the order of the utterances.

        Args:
            utterances: with audio of any length up to the window.
            name: of what they belong to, for messages.
            done: called after each batch with the seconds of its audio.

        Raises:
            UserError: for an utterance that is over the window or whose audio cannot be read, or an unknown language.
        """
        texts = [""] * len(utterances)
        for rows in self.batches(utterances, name):
            batch = [utterances[row] for row in rows]
            for row, found in zip(rows, self.transcribe_batch(batch), strict=True):
                texts[row] = found.text
            done(sum(utterance.duration for utterance in batch))
        return texts

    def batches(self, utterances: Sequence[Utterance], name: str = "evaluation") -> list[list[int]]:
        """Group rows by prompt length and duration, so that batches hold little padding; `name` is for messages.

        With the window `longest`, the utterances of a batch need the same window, so none depends on the others.

        Raises:
            UserError: for an utterance that is over the window, or a language that the tokenizer lacks.
        """
        check_lengths(utterances, self.engine.window.seconds, name)
        tags = [self._tags(utterance) for utterance in utterances]
        for code in {code for codes in tags for code in codes} - {"auto"}:
            language_id(self.engine.tokenizer, code)

        def kind(row: int) -> tuple[int, int]:
            return len(tags[row]), -self.engine.window.frames_for(utterances[row].duration)

        rows = sorted(range(len(utterances)), key=lambda row: (kind(row), -utterances[row].duration))
        return [
            members[start : start + self.batch_size]
            for members in (list(group) for _, group in groupby(rows, key=kind))
            for start in range(0, len(members), self.batch_size)
        ]

    def transcribe_batch(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe one batch of utterances whose prompts are equally long."""
        waveforms = [load_waveform(u.audio, u.offset, u.duration) for u in utterances]
        waveforms_BS = pad_sequence(waveforms, batch_first=True)
        if self.engine.window.longest:  # a file may hold a few samples more or fewer than the manifest says
            frames = self.engine.window.frames_for(max(u.duration for u in utterances))
            samples = frames * SAMPLE_RATE_HZ // FRAMES_PER_SECOND
            waveforms_BS = pad(waveforms_BS, (0, samples - waveforms_BS.shape[1]))
        encoded = self.engine.encode(waveforms_BS)
        if self.language == "auto":
            tags = [(code,) for code in self.engine.detect(encoded)]
        else:
            tags = [self._tags(utterance) for utterance in utterances]
        prompt_BU = [prompt_ids(self.engine.tokenizer, codes) for codes in tags]
        most_B = [self.guards.most_tokens(utterance.duration) for utterance in utterances]
        written = self.engine.generate(encoded, prompt_BU, most_B, self.guards.repeats)
        end = special_id(self.engine.tokenizer, "endoftext")
        rows = [cut(tokens, end, most, self.guards.repeats) for tokens, most in zip(written, most_B, strict=True)]
        texts = self.engine.tokenizer.batch_decode([tokens for tokens, _ in rows], skip_special_tokens=True)
        return [
            # a cut may go through the bytes of a character
            Hypothesis(text.rstrip("\ufffd" if by else "").strip(), by)
            for text, (_, by) in zip(texts, rows, strict=True)
        ]

    def _tags(self, utterance: Utterance) -> tuple[str, ...]:
        return prompt_languages(self.language, utterance.matrix_language, utterance.languages)


class TorchWhisper:
    """Whisper in PyTorch, as `read_model_folder` returns it.

    Args:
        model, processor: the model.
        beams: width of the beam search; 1 is greedy.
        device: where to decode.
        window: how much audio the encoder is given; None takes what the model was trained with.
        compiled: translate the decoder's greedy step by torch.compile.
        precision: number format of weights and arithmetic; None leaves the model's.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        processor: WhisperProcessor,
        *,
        beams: int = 1,
        device: torch.device | str = "cpu",
        window: str | float | None = None,
        compiled: bool = False,
        precision: str | None = None,
    ) -> None:
        self.model = model.to(device, precision and getattr(torch, precision)).eval()
        self.tokenizer = processor.tokenizer
        self.beams = beams
        self.compiled = compiled
        self.device = torch.device(device)
        take_short_windows(model)
        self.window = window_of(window, model.config)
        self.log_mel = LogMel(processor.feature_extractor, self.window).to(device)
        self.end = special_id(self.tokenizer, "endoftext")
        self.never_V, self.never_first_V = self._suppressed()

    def _suppressed(self) -> tuple[Tensor, Tensor]:
        """Additive masks over the vocabulary: tokens never emitted, and never emitted first."""
        config = self.model.generation_config
        vocabulary = torch.arange(self.model.config.vocab_size, device=self.device)
        never_V, first_V = (
            torch.where(torch.isin(vocabulary, torch.tensor(list(ids or []), device=self.device)), -torch.inf, 0.0)
            for ids in (config.suppress_tokens, config.begin_suppress_tokens)
        )
        return never_V, never_V + first_V

    @torch.inference_mode()
    def encode(self, waveforms_BS: Tensor) -> Tensor:
        """Encoder states, (B, T, D)."""
        mel_BFT = self.log_mel(waveforms_BS.to(self.device))
        return self.model.model.encoder(mel_BFT.to(self.model.dtype)).last_hidden_state

    @torch.inference_mode()
    def detect(self, encoded_BTD: Tensor) -> list[str]:
        """The model's own language code for each utterance: its most probable first tag."""
        known = getattr(self.model.generation_config, "lang_to_id", None)
        if not known:
            raise UserError("language auto: the model's generation_config.json lists no languages (lang_to_id)")
        start = torch.full((len(encoded_BTD), 1), special_id(self.tokenizer, "startoftranscript"), device=self.device)
        encoder_outputs = BaseModelOutput(last_hidden_state=encoded_BTD)
        logits_BV = self.model(encoder_outputs=encoder_outputs, decoder_input_ids=start).logits[:, -1]
        tags, ids = list(known), torch.tensor(list(known.values()), device=self.device)
        return [tags[best].strip("<|>") for best in logits_BV[:, ids].argmax(-1).tolist()]

    @torch.inference_mode()
    def generate(
        self, encoded_BTD: Tensor, prompt_BU: list[list[int]], most_B: Sequence[int], repeats: int
    ) -> list[list[int]]:
        """The tokens after the prompt, greedily or by beam search; arguments as in `Engine`."""
        prompt, most = (torch.tensor(rows, device=self.device) for rows in (prompt_BU, most_B))
        if self.beams > 1:
            return self._beam(encoded_BTD, prompt, most).tolist()
        masks, guards = (self.never_V, self.never_first_V), {"most_B": most, "repeats": repeats}
        return greedy(self.model, encoded_BTD, prompt, self.end, *masks, compiled=self.compiled, **guards).tolist()

    def _beam(self, encoded_BTD: Tensor, prompt_BU: Tensor, most_B: Tensor) -> Tensor:
        """transformers' beam search under the same prompt and suppressions; (B, U) without the prompt."""
        begin = prompt_BU.shape[1]
        most_N = most_B.repeat_interleave(self.beams)
        never_but_end_V = torch.full_like(self.never_V, -torch.inf)
        never_but_end_V[self.end] = 0

        def bounded(tokens_NU: Tensor, scores_NV: Tensor) -> Tensor:
            """End an utterance after one token more than it may have."""
            full_N = tokens_NU.shape[1] - begin > most_N
            return torch.where(full_N[:, None], never_but_end_V, scores_NV)

        config, model = self.model.generation_config, copy(self.model)
        # Nothing else of the model's own: a length, a penalty or a time limit in it would change what is found.
        model.generation_config = GenerationConfig(
            **{name: getattr(config, name) for name in _OWN}, max_length=self.model.config.max_target_positions
        )
        tokens_BU = GenerationMixin.generate(  # not Whisper's own: it builds prompts of its own, without two tags
            model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded_BTD),
            attention_mask=torch.ones(encoded_BTD.shape[:2], dtype=torch.long, device=self.device),
            decoder_input_ids=prompt_BU,
            num_beams=self.beams,
            do_sample=False,
            logits_processor=LogitsProcessorList([bounded]),
        )
        return tokens_BU[:, begin:]

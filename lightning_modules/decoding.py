"""Greedy transcription in batches, with the language tags that each utterance asks for.

Shape suffixes: B utterances, U tokens, V vocabulary, T frames, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationMixin, WhisperForConditionalGeneration, WhisperProcessor
from transformers.modeling_outputs import BaseModelOutput

from common.errors import UserError
from datamodules.audio import load_waveform
from datamodules.dataset import check_lengths
from datamodules.manifest import Utterance
from datamodules.prompts import prompt_ids, prompt_languages, special_id
from lightning_modules.features import LogMel


class Transcriber:
    """Transcribes utterances with one model, greedily: the result depends neither on batch size nor on order.

    Args:
        model, processor: as `read_model_folder` returns them.
        language: policy of the language tags; see `datamodules.prompts`, and `auto` for the model's own choice.
        beams: hypotheses kept side by side; 1 is greedy.
        batch_size: utterances decoded side by side.
        device: where to decode.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        processor: WhisperProcessor,
        *,
        language: str = "matrix",
        beams: int = 1,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model.to(device).eval()
        self.tokenizer = processor.tokenizer
        self.language = language
        self.beams = beams
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.log_mel = LogMel(processor.feature_extractor, 2 * model.config.max_source_positions).to(device)
        self.end = special_id(self.tokenizer, "endoftext")
        self.never_V, self.never_first_V = self._suppressed()

    def _suppressed(self) -> tuple[Tensor, Tensor]:
        """Additive masks over the vocabulary: tokens never emitted, and never emitted first."""
        config = self.model.generation_config
        never_V = torch.zeros(self.model.config.vocab_size, device=self.device)
        never_V[list(config.suppress_tokens or [])] = -torch.inf
        never_first_V = never_V.clone()
        never_first_V[list(config.begin_suppress_tokens or [])] = -torch.inf
        return never_V, never_first_V

    def transcribe(self, utterances: Sequence[Utterance], done: Callable[[int], None] | None = None) -> list[str]:
        """Transcripts in the order of the utterances; `done` is told after each batch how many it held.

        Raises:
            UserError: for an utterance that is over the window or whose audio cannot be read, or an unknown language.
        """
        check_lengths(utterances, self.log_mel.window_s, "evaluation")
        texts = [""] * len(utterances)
        for rows in self._batches(utterances):
            transcripts = self._transcribe_batch([utterances[row] for row in rows])
            for row, text in zip(rows, transcripts, strict=True):
                texts[row] = text
            if done:
                done(len(rows))
        return texts

    def _batches(self, utterances: Sequence[Utterance]) -> Iterator[list[int]]:
        """Rows of like prompt length, then of like duration, so that a batch wastes little."""

        def prompt_length(row: int) -> int:
            return len(prompt_languages(self.language, utterances[row].matrix_language, utterances[row].languages))

        rows = sorted(range(len(utterances)), key=lambda row: (prompt_length(row), -utterances[row].duration))
        for _, group in groupby(rows, key=prompt_length):
            members = list(group)
            yield from (members[i : i + self.batch_size] for i in range(0, len(members), self.batch_size))

    @torch.inference_mode()
    def _transcribe_batch(self, utterances: Sequence[Utterance]) -> list[str]:
        waveforms = [load_waveform(u.audio, u.offset, u.duration) for u in utterances]
        mel_BFT = self.log_mel(pad_sequence(waveforms, batch_first=True).to(self.device))
        encoded_BTD = self.model.model.encoder(mel_BFT.to(self.model.dtype)).last_hidden_state
        if self.language == "auto":
            prompts = [prompt_ids(self.tokenizer, (code,)) for code in self._detect(encoded_BTD)]
        else:
            prompts = [
                prompt_ids(self.tokenizer, prompt_languages(self.language, u.matrix_language, u.languages))
                for u in utterances
            ]
        search = self._greedy if self.beams == 1 else self._beam
        tokens_BU = search(encoded_BTD, torch.tensor(prompts, device=self.device))
        return [text.strip() for text in self.tokenizer.batch_decode(tokens_BU.tolist(), skip_special_tokens=True)]

    def _greedy(self, encoded_BTD: Tensor, prompt_BU: Tensor) -> Tensor:
        """The most probable token after each other, until every utterance has ended; (B, U) without the prompt."""
        cache = None
        encoder_outputs = BaseModelOutput(last_hidden_state=encoded_BTD)
        inputs_BU, tokens = prompt_BU, []
        ended_B = torch.zeros(len(prompt_BU), dtype=torch.bool, device=self.device)
        for position in range(self.model.config.max_target_positions - prompt_BU.shape[1]):
            output = self.model(
                encoder_outputs=encoder_outputs, decoder_input_ids=inputs_BU, past_key_values=cache, use_cache=True
            )
            cache = output.past_key_values
            logits_BV = output.logits[:, -1].float() + (self.never_V if position else self.never_first_V)
            next_B = logits_BV.argmax(-1).masked_fill(ended_B, self.end)
            tokens.append(next_B)
            ended_B |= next_B == self.end
            if ended_B.all():
                break
            inputs_BU = next_B[:, None]
        return torch.stack(tokens, 1)

    def _beam(self, encoded_BTD: Tensor, prompt_BU: Tensor) -> Tensor:
        """transformers' beam search under the same prompt and suppressions; (B, U) without the prompt."""
        config = self.model.generation_config
        tokens_BU = GenerationMixin.generate(  # not Whisper's own: it builds prompts of its own, without two tags
            self.model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded_BTD),
            attention_mask=torch.ones(encoded_BTD.shape[:2], dtype=torch.long, device=self.device),
            decoder_input_ids=prompt_BU,
            num_beams=self.beams,
            do_sample=False,
            max_length=self.model.config.max_target_positions,
            suppress_tokens=config.suppress_tokens,
            begin_suppress_tokens=config.begin_suppress_tokens,
        )
        return tokens_BU[:, prompt_BU.shape[1] :]

    def _detect(self, encoded_BTD: Tensor) -> list[str]:
        """The model's own language for each utterance: its most probable first tag."""
        known = getattr(self.model.generation_config, "lang_to_id", None)
        if not known:
            raise UserError("language auto: the model's generation_config.json lists no languages (lang_to_id)")
        start = torch.full((len(encoded_BTD), 1), special_id(self.tokenizer, "startoftranscript"), device=self.device)
        encoder_outputs = BaseModelOutput(last_hidden_state=encoded_BTD)
        logits_BV = self.model(encoder_outputs=encoder_outputs, decoder_input_ids=start).logits[:, -1]
        tags, ids = list(known), torch.tensor(list(known.values()), device=self.device)
        return [tags[best].strip("<|>") for best in logits_BV[:, ids].argmax(-1).tolist()]

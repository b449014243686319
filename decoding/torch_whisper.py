"""Whisper in PyTorch, as an engine of decoding.

Shape suffixes: B utterances, N beams of all utterances, S samples at 16 kHz, U tokens, V vocabulary, T frames, D width.
"""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from backbone.greedy import greedy
from backbone.language_tags import special_id
from backbone.log_mel import LogMel
from backbone.token_times import TokenTimes, token_times
from backbone.window import take_short_windows, window_of
from common.constants import MAX_TOKENS
from common.errors import UserError
from decoding.decoding_engine import Attempt, Written

_OWN = (  # what the beam search takes from a model's generation configuration
    "decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens",
    "begin_suppress_tokens",
)  # fmt: skip


class TorchWhisper:
    """Whisper in PyTorch, as `read_model_folder` returns it.

    Args:
        model, processor: the model.
        beams: width of the beam search; 1 is greedy.
        device: where to decode.
        window: how much audio the encoder is given; None takes what the model was trained with.
        compiled: compile the decoder's greedy step by torch.compile.
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
    def detect(self, encoded_BTD: Tensor) -> list[dict[str, float]]:
        """Return, for each utterance, the probability of each language tag as its first token."""
        known = getattr(self.model.generation_config, "lang_to_id", None)
        if not known:
            raise UserError("language auto: the model's generation_config.json lists no languages (lang_to_id)")
        codes, ids = [tag.strip("<|>") for tag in known], torch.tensor(list(known.values()), device=self.device)
        chances = self._after_start(encoded_BTD)[:, ids].float().softmax(-1).tolist()
        return [dict(zip(codes, row, strict=True)) for row in chances]

    @torch.inference_mode()
    def no_speech(self, encoded_BTD: Tensor) -> list[float]:
        """Return, for each utterance, the probability of the no-speech token in place of its language tag."""
        names = self.tokenizer.get_vocab().keys() & {"<|nospeech|>", "<|nocaptions|>"}  # tokenizers use either name
        if not names:
            raise UserError("--no-speech: the model's tokenizer has no token <|nospeech|>; --no-speech 1 does without")
        token = self.tokenizer.convert_tokens_to_ids(names.pop())
        return self._after_start(encoded_BTD).float().softmax(-1)[:, token].tolist()

    def _after_start(self, encoded_BTD: Tensor) -> Tensor:
        """Logits (B, V) after the start token alone."""
        start = torch.full((len(encoded_BTD), 1), special_id(self.tokenizer, "startoftranscript"), device=self.device)
        encoder_outputs = BaseModelOutput(last_hidden_state=encoded_BTD)
        return self.model(encoder_outputs=encoder_outputs, decoder_input_ids=start).logits[:, -1]

    @torch.inference_mode()
    def generate(self, encoded_BTD: Tensor, attempt: Attempt) -> list[Written]:
        """Return the tokens after the prompt, by beam search, greedily or sampled."""
        prompt, most = (torch.tensor(rows, device=self.device) for rows in (attempt.prompt_BU, attempt.most_B))
        if self.beams > 1 and not attempt.temperature:
            tokens_BU = self._beam(encoded_BTD, prompt, most)
            sums_B = self._sums(encoded_BTD, prompt, tokens_BU) if attempt.judged else torch.zeros(len(prompt))
        else:
            how = {"repeats": attempt.repeats, "temperature": attempt.temperature, "scored": attempt.judged}
            if attempt.temperature:
                how["draws_BU"] = torch.stack([_draws(seed) for seed in attempt.seeds_B]).to(self.device)
            masks = self.never_V, self.never_first_V
            tokens_BU, sums_B = greedy(
                self.model, encoded_BTD, prompt, self.end, *masks, most_B=most, compiled=self.compiled, **how
            )
        rows = tokens_BU.tolist()
        lengths = [row.index(self.end) if self.end in row else len(row) for row in rows]
        means = [total / (length + 1) for total, length in zip(sums_B.tolist(), lengths, strict=True)]
        return [Written(*one) for one in zip(rows, means, strict=True)]

    def token_times(
        self,
        encoded_BTD: Tensor,
        prompt_BU: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        durations_s: Sequence[float],
    ) -> list[TokenTimes | None]:
        """Return when the tokens of each text are spoken; see `backbone.token_times`."""
        return token_times(self.model, self.tokenizer, encoded_BTD, prompt_BU, texts, durations_s)

    def _sums(self, encoded_BTD: Tensor, prompt_BU: Tensor, tokens_BU: Tensor) -> Tensor:
        """Return the summed log-probabilities (B,) of tokens up to the end, by one forward pass for each utterance."""
        sums = []
        for encoded_TD, prompt_U, row_U in zip(encoded_BTD, prompt_BU, tokens_BU, strict=True):
            row_U = row_U[: int((row_U != self.end).sum()) + 1]
            logits_UV = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded_TD[None]),
                decoder_input_ids=torch.cat([prompt_U, row_U[:-1]])[None],
            ).logits[0, len(prompt_U) - 1 :].float() + self.never_V  # fmt: skip
            logits_UV[0] += self.never_first_V
            sums.append(logits_UV.log_softmax(-1).gather(1, row_U[:, None]).sum())
        return torch.stack(sums)

    def _beam(self, encoded_BTD: Tensor, prompt_BU: Tensor, most_B: Tensor) -> Tensor:
        """Run transformers' beam search with the same prompt and suppressed tokens; (B, U), without the prompt."""
        begin = prompt_BU.shape[1]
        most_N = most_B.repeat_interleave(self.beams)
        never_but_end_V = torch.full_like(self.never_V, -torch.inf)
        never_but_end_V[self.end] = 0

        def bounded(tokens_NU: Tensor, scores_NV: Tensor) -> Tensor:
            """Force the end of an utterance one token past its limit."""
            full_N = tokens_NU.shape[1] - begin > most_N
            return torch.where(full_N[:, None], never_but_end_V, scores_NV)

        config, model = self.model.generation_config, copy(self.model)
        # Nothing else of the model's own configuration: a length, penalty or time limit in it would change the result.
        model.generation_config = GenerationConfig(
            **{name: getattr(config, name) for name in _OWN}, max_length=self.model.config.max_target_positions
        )
        tokens_BU = GenerationMixin.generate(  # not Whisper's own `generate`, which builds prompts without two tags
            model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded_BTD),
            attention_mask=torch.ones(encoded_BTD.shape[:2], dtype=torch.long, device=self.device),
            decoder_input_ids=prompt_BU,
            num_beams=self.beams,
            do_sample=False,
            logits_processor=LogitsProcessorList([bounded]),
        )
        return tokens_BU[:, begin:]


def _draws(seed: int) -> Tensor:
    """Return the random numbers that decide an utterance's sampled tokens; from the CPU, so the same on all devices."""
    return torch.rand(MAX_TOKENS, generator=torch.Generator().manual_seed(seed))

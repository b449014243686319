"""Convert a model folder to CTranslate2, as faster-whisper loads it, and decode with the conversion.

Both packages are an extra, so they are imported where they are used.

Shape suffixes: B utterances, S samples at 16 kHz, U tokens, F mel bins, T frames.
"""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import AutoConfig, WhisperProcessor

from backbone.log_mel import LogMel
from backbone.window import window_of
from common.errors import UserError, first_line
from common.files import atomic_folder
from common.option_types import NumberFormat
from decoding.decoding_engine import Attempt, Written


def convert(source: Path, identity: str, cache: Path) -> Path:
    """Convert a model folder, unless the cache holds its conversion, and return the conversion's folder.

    Args:
        source: the model folder.
        identity: identifies the model, such as a hash of its weights.
        cache: a folder of conversions, one for each identity and version of CTranslate2.

    Raises:
        UserError: where faster-whisper is not installed or CTranslate2 cannot convert the model.
    """
    try:
        import faster_whisper  # noqa: F401
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise UserError(
            f"the backend faster-whisper is not installed ({error}): pip install -e '.[faster-whisper]'"
        ) from None
    version = importlib.metadata.version("ctranslate2")
    folder = cache / hashlib.sha256(f"{identity} {version}".encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as partial:
        try:
            TransformersConverter(str(source)).convert(str(partial), force=True)
            processor = WhisperProcessor.from_pretrained(source)
        except Exception as error:  # neither library has errors of its own
            raise UserError(f"{source}: CTranslate2 cannot convert the model: {first_line(error)}") from None
        # Without these two, faster-whisper downloads whisper-tiny's tokenizer and assumes 80 mel bins.
        processor.tokenizer.save_pretrained(partial)
        processor.feature_extractor.save_pretrained(partial)
    return folder


class FasterWhisper:
    """A converted model, with the same log-mel and the same prompts as the original.

    Args:
        folder: what `convert` returned.
        source: the original's folder.
        beams: width of the beam search; 1 is greedy.
        device: where to decode.
        window: how much audio the encoder is given; None takes what the original was trained with.
        precision: number format of weights and arithmetic.
    """

    def __init__(
        self,
        folder: Path,
        source: Path,
        *,
        beams: int = 1,
        device: torch.device | str = "cpu",
        window: str | float | None = None,
        precision: str = "float32",
    ) -> None:
        from ctranslate2 import get_supported_compute_types
        from faster_whisper import WhisperModel

        self.device = torch.device(device)
        if precision not in (known := get_supported_compute_types(self.device.type, self.device.index or 0)):
            formats = ", ".join(sorted(known & set(get_args(NumberFormat))))
            raise UserError(f"--precision {precision}: CTranslate2 on this {self.device.type} knows {formats}")
        self.model = WhisperModel(
            str(folder),
            device=self.device.type,
            device_index=self.device.index or 0,
            compute_type=precision,
            cpu_threads=torch.get_num_threads(),
            local_files_only=True,
        ).model
        processor, config = WhisperProcessor.from_pretrained(source), AutoConfig.from_pretrained(source)
        self.tokenizer = processor.tokenizer
        self.beams = beams
        self.max_tokens = config.max_target_positions
        self.window = window_of(window, config)
        self.log_mel = LogMel(processor.feature_extractor, self.window).to(self.device)

    def encode(self, waveforms_BS: Tensor) -> Any:
        """Encoder states, as CTranslate2 holds them."""
        from ctranslate2 import StorageView

        mel_BFT = self.log_mel(waveforms_BS.to(self.device))
        return self.model.encode(StorageView.from_array(mel_BFT.cpu().contiguous().numpy()))

    def detect(self, encoded: Any) -> list[dict[str, float]]:
        """Return, for each utterance, the probability of each language tag as its first token."""
        if not self.model.is_multilingual:
            raise UserError(
                "language auto: CTranslate2 detects languages only with a vocabulary of 51,865 tokens or more, "
                "as Whisper's own; choose another policy, or the backend transformers"
            )
        return [{tag.strip("<|>"): chance for tag, chance in row} for row in self.model.detect_language(encoded)]

    def no_speech(self, encoded: Any) -> list[float]:
        """Not supported; callers ask only the engine in PyTorch for it."""
        raise NotImplementedError

    def token_times(self, *given: Any) -> list[Any]:
        """Not supported; callers ask only the engine in PyTorch for it."""
        raise NotImplementedError

    def generate(self, encoded: Any, attempt: Attempt) -> list[Written]:
        """Return the tokens after the prompt, greedily or by beam search, with the folder's own suppressed tokens.

        CTranslate2 takes one limit for the whole batch, and does not stop at loops. A beam search's result depends on
        its limit, so that with beams the limit is the decoder's full length, whatever the other utterances' limits are.
        """
        room = self.max_tokens - len(attempt.prompt_BU[0])
        most = min(room, max(attempt.most_B) + 1) if self.beams == 1 else room
        # CTranslate2 writes no more than half of max_length.
        results = self.model.generate(encoded, attempt.prompt_BU, beam_size=self.beams, max_length=2 * most)
        return [Written(result.sequences_ids[0]) for result in results]

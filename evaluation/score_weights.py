"""Score weights in memory on development sets, as a sweep over merges needs it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from torch import Tensor
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

from backbone.devices import default_device
from backbone.model_folder.architecture import PROJECTION
from backbone.model_folder.locate import check_generation_config
from common.errors import UserError
from common.manifest import read_manifest
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Transcriber
from scoring.metrics import rates_by_pair


def score_state_dict(folder: Path, weights: Mapping[str, Tensor], manifests: Sequence[Path]) -> dict[str, float]:
    """Return the mixed error rate of each pair (micro, profile `cjk`), decoded greedily with the matrix language's tag.

    Args:
        folder: the model's configurations, tokenizer and processor, read once; its weights are not read.
        weights: float32 tensors by name, without the tied projection; they are copied.
        manifests: the utterances to transcribe; a pair may be in several.

    Raises:
        UserError: where the weights are not the model's, or an utterance cannot be transcribed or scored.
    """
    engine = _unfilled(folder)
    if engine.model.config.tie_word_embeddings:
        weights = {PROJECTION: weights["model.decoder.embed_tokens.weight"], **weights}
    if odd := sorted(engine.model.state_dict().keys() ^ weights.keys()):
        raise UserError(f"{folder}: the weights are not those of its config.json: {len(odd)} differ, such as {odd[0]}")
    engine.model.load_state_dict(weights)
    utterances = [utterance for manifest in manifests for utterance in read_manifest(manifest)]
    return rates_by_pair(utterances, Transcriber(engine).transcribe(utterances))


@lru_cache(maxsize=1)
def _unfilled(folder: Path) -> TorchWhisper:
    """Return a model of the folder's configuration whose weights are still to be loaded."""
    check_generation_config(folder)
    model = WhisperForConditionalGeneration(WhisperConfig.from_pretrained(folder))
    model.generation_config = GenerationConfig.from_pretrained(folder)
    return TorchWhisper(model, WhisperProcessor.from_pretrained(folder), device=default_device())

"""The tensors that a Whisper has by its configuration: names and shapes, known before any weight is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.configs import read_yaml
from common.errors import UserError

_TABLE = read_yaml(Path(__file__).with_name("whisper_tensors.yaml"))
DEFAULTS: dict[str, Any] = _TABLE["defaults"]
EMBEDDING = "model.decoder.embed_tokens.weight"
PROJECTION = "proj_out.weight"  # the embedding itself where the two are tied; some files hold it twice
_MOST = {"encoder_layers": 256, "decoder_layers": 256, "num_mel_bins": 1024, "max_target_positions": 100_000}
_MOST_OF_OTHERS = 1_000_000


def check_architecture(config: Mapping[str, Any], where: str) -> None:
    """Check that a configuration is a Whisper's, and each of its sizes one that a Whisper can have.

    Raises:
        UserError: naming the key and the value.
    """
    if config["model_type"] != DEFAULTS["model_type"]:
        raise UserError(
            f"{where}: model_type is {config['model_type']!r:.100}, expected 'whisper'; name a Whisper model"
        )
    for key, default in DEFAULTS.items():
        value = config[key]
        if type(value) is not type(default):
            kind = type(default).__name__
            raise UserError(f"{where}: {key} is {value!r:.100}, expected a value of type {kind} as {default!r}")
        most = _MOST.get(key, _MOST_OF_OTHERS)
        if type(value) is int and not 1 <= value <= most:
            raise UserError(f"{where}: {key} is {value}, expected 1 to {most:,}; copy the file from the base")
    for side in ("encoder", "decoder"):
        if config["d_model"] % config[f"{side}_attention_heads"]:
            raise UserError(
                f"{where}: d_model {config['d_model']} is no multiple of {side}_attention_heads "
                f"{config[f'{side}_attention_heads']}; copy the file from the base"
            )


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name; a tied output projection is left out."""
    found: dict[str, tuple[int, ...]] = {}
    for side in ("encoder", "decoder"):
        sizes = {**config, "ffn_dim": config[f"{side}_ffn_dim"]}
        layers = [(f"model.{side}.layers.{number}", f"{side}_layer") for number in range(config[f"{side}_layers"])]
        for prefix, part in ((f"model.{side}", side), *layers):
            for name, shape in _TABLE[part].items():
                found[f"{prefix}.{name}"] = tuple(sizes.get(size, size) for size in shape)
    return found if config["tie_word_embeddings"] else found | {PROJECTION: found[EMBEDDING]}

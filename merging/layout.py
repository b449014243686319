"""The place of each tensor in encoder and decoder, and the value that a parameter has there."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from common.errors import UserError, nearest

EMBEDDINGS = re.compile(r"(encoder|decoder)\.embed_(tokens|positions)\.")
NORMS = re.compile(r"(encoder|decoder)\.layer_norm\.")
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.")
_STACK = re.compile(r"(?:^|\.)(encoder|decoder)\.")
_PART = re.compile(r"(encoder|decoder)\.(conv|layers\.\d+\.(self_attn|encoder_attn|fc|final_layer_norm))")


class Layout:
    """The place of each tensor of an encoder-decoder: its stack and its depth, from the tensors' names alone."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take all tensor names of the model, in any order."""
        self.names = sorted(names)
        self.layers = {"encoder": 0, "decoder": 0}
        for name in self.names:
            if match := _LAYER.search(name):
                self.layers[match[1]] = max(self.layers[match[1]], int(match[2]) + 1)

    @property
    def total(self) -> int:
        """Layers of encoder and decoder together."""
        return sum(self.layers.values())

    def layer(self, name: str) -> int | None:
        """Return the layer's number over both stacks, the encoder's first; None outside the layers."""
        match = _LAYER.search(name)
        return None if match is None else int(match[2]) + (self.layers["encoder"] if match[1] == "decoder" else 0)

    def depth(self, name: str, within: str | None = None) -> float:
        """Return the depth in [0, 1] over both stacks or within one: 0 for embeddings, 1 for final norms."""
        stack, layer = _STACK.search(name), _LAYER.search(name)
        if not stack:
            return 0.0
        number = int(layer[2]) if layer else (self.layers[stack[1]] - 1) * bool(NORMS.search(name))
        if stack[1] == "decoder" and within is None:
            number += self.layers["encoder"]
        last = (self.layers[within] if within else self.total) - 1
        return min(1.0, max(0.0, number / last)) if last > 0 else 0.0

    def check_modules(self, parameter: str, value: Any) -> None:
        """Check that each module that a value names has tensors.

        Raises:
            UserError: naming the parameter, the module and the nearest one.
        """
        for module in _modules(value):
            if module != "default" and not any(_matches(module, name) for name in self.names):
                known = {"encoder", "decoder", "embeddings", "norms", "default"}
                known |= {name.removeprefix("model.").rpartition(".")[0] for name in self.names}
                raise UserError(
                    f"{parameter}: no tensor belongs to the module {module!r}{nearest(module, known)} (encoder, "
                    "decoder, embeddings, norms, default, or the beginning of a tensor's name such as decoder.layers.3)"
                )


def value_at(value: Any, name: str, layout: Layout, default: Any) -> Any:
    """Return a parameter's number for one tensor: the most specific module's, interpolated at the tensor's depth.

    Args:
        value: checked: a number, a list over depth, or either by module.
        name: the tensor's.
        layout: the tensors' places.
        default: the number of modules that `value` does not name.
    """
    within = None
    if isinstance(value, Mapping):
        modules = [module for module in value if _matches(module, name)]
        module = max(modules, key=_specificity, default=None)
        within = module if module in ("encoder", "decoder") else None
        value = default if module is None and "default" not in value else value[module or "default"]
    if isinstance(value, list):
        place = layout.depth(name, within) * (len(value) - 1)
        low = math.floor(place)
        high = min(low + 1, len(value) - 1)
        return value[low] + (value[high] - value[low]) * (place - low)
    return value


def _matches(module: str, name: str) -> bool:
    if module in ("embeddings", "norms"):
        return bool((EMBEDDINGS if module == "embeddings" else NORMS).search(name))
    bare = name.removeprefix("model.")
    return f"{bare}.".startswith(f"{module.removeprefix('model.')}.")


def _specificity(module: str) -> tuple[bool, bool, int]:
    return "." in module, module in ("embeddings", "norms"), len(module)


def _modules(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
    elif isinstance(value, list):
        for part in value:
            yield from _modules(part)


def module_of(name: str) -> str:
    """Return the part of the model that a tensor belongs to, as the card lists them."""
    if EMBEDDINGS.search(name):
        return "embeddings"
    if NORMS.search(name):
        return "final norms"
    if match := _PART.search(name):
        kinds = {"self_attn": "self-attention", "encoder_attn": "cross-attention", None: "convolutions"}
        return f"{match[1]} {kinds.get(match[3], 'feed-forward')}"
    return "others"

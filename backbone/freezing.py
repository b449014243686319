"""Parts of a Whisper that are not trained, by name."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from common.errors import UserError, nearest


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Make the parameters of parts untrainable.

    A part is a name as in `named_parameters()`, without the leading `model.`, and includes everything below it:
    `encoder`, `encoder.layers.0`, `decoder.embed_tokens`, `*.layer_norm`; `*` is any text.

    Raises:
        UserError: where a name fits nothing, or nothing is left to train.
    """
    names = {name.removeprefix("model."): parameter for name, parameter in model.named_parameters()}
    for part in parts:
        found = [name for name in names if fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")]
        if not found:
            known = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, 5)}
            top = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"model.frozen names {part!r}, which is no part of the model{nearest(part, known)}; its parts are: "
                f"{', '.join(top)}"
            )
        for name in found:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise UserError(f"model.frozen ({', '.join(parts)}) leaves nothing to train")

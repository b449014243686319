"""Write model folders, whole or absent: from a model in memory or tensor by tensor."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.model_folder.locate import WINDOW
from backbone.model_folder.stored import DTYPES, ITEM_BYTES, PROCESSORS, ModelFolder, StoredTensor, all_finite
from common.errors import UserError
from common.files import atomic_folder, room, size_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

SIDE_FILES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "normalizer.json",
    "added_tokens.json", "special_tokens_map.json", *PROCESSORS,
)  # fmt: skip


def write_model_folder(
    folder: Path | str,
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    *,
    weights: dict[str, Tensor] | None = None,
    extra: dict[str, str] | None = None,
) -> None:
    """Write weights, configs, tokenizer and both processor files, atomically.

    transformers writes `processor_config.json` alone; faster-whisper and others read `preprocessor_config.json`, so
    both are written.

    Args:
        folder: where to.
        model: the model.
        processor: its tokenizer and feature extractor.
        weights: the state to write, where the model's own state is divided over ranks.
        extra: further text files by name, such as the model card.
    """
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial, state_dict=weights)
        processor.save_pretrained(partial)
        processor.feature_extractor.save_pretrained(partial)
        for name, text in (extra or {}).items():
            (partial / name).write_text(text, encoding="utf-8")


def write_side_files(folder: Path, base: ModelFolder, models: Sequence[ModelFolder], dtype: str) -> None:
    """Write all files but the weights of a merged model.

    Config, generation config, tokenizer and processor files are the base's, or of the first model that has them; only
    the window of training is the fine-tunes', so that the new model is decoded as they are.

    Args:
        folder: where to.
        base: the model whose files are taken first.
        models: its fine-tunes.
        dtype: of the weights, as safetensors calls it.
    """
    for file in SIDE_FILES:
        donor = next((donor for donor in (base, *models) if (donor.path / file).is_file()), None)
        if donor is not None:
            shutil.copyfile(donor.path / file, folder / file)
    _complete_processor(ModelFolder(folder, str(folder)))
    own = base.json("config.json")
    config = {key: value for key, value in own.items() if key not in ("_name_or_path", "torch_dtype", WINDOW)}
    window = {key: value for key, value in models[0].config.items() if key == WINDOW}
    _write_json(folder / "config.json", config | window | {"dtype": DTYPES[dtype]})


def _complete_processor(made: ModelFolder) -> None:
    """Write the one processor file from the other: transformers 5 saves one, faster-whisper reads the other."""
    old, new = (made.path / file for file in PROCESSORS)
    if new.is_file() and "feature_extractor" in (whole := made.json(new.name)):
        kind = whole.get("processor_class", "WhisperProcessor")
        _write_json(old, whole["feature_extractor"] | {"processor_class": kind})
    elif old.is_file():
        extractor = made.json(old.name)
        kind = extractor.pop("processor_class", "WhisperProcessor")
        _write_json(new, {"feature_extractor": extractor, "processor_class": kind})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


class SafetensorsWriter(AbstractContextManager["SafetensorsWriter"]):
    """Writes one safetensors file tensor by tensor, in any order, from several threads: no whole model in memory.

    Args:
        file: what to write.
        shapes: each tensor's shape by name.
        dtypes: each tensor's dtype, as safetensors calls it.
    """

    def __init__(self, file: Path, shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self.tensors: dict[str, StoredTensor] = {}
        self._begins: dict[str, int] = {}
        end = 0
        for name, shape in shapes.items():
            self.tensors[name] = StoredTensor(file, name, dtypes[name], tuple(shape))
            begin, end = end, end + self.tensors[name].numel * ITEM_BYTES[dtypes[name]]
            header[name] = {"dtype": dtypes[name], "shape": list(shape), "data_offsets": [begin, end]}
            self._begins[name] = begin
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors lie at multiples of eight bytes
        self._data = 8 + len(text)
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.pwrite(self._handle, struct.pack("<Q", len(text)) + text, 0)
        os.truncate(self._handle, self._data + end)

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._handle)

    def write(self, name: str, values: Tensor) -> None:
        """Write a tensor, cast to the dtype of the file.

        Raises:
            UserError: where finite values leave the range of that dtype.
        """
        import torch

        dtype = DTYPES[self.tensors[name].dtype]
        cast = values.to(getattr(torch, dtype)).contiguous()
        if not all_finite(cast):
            raise UserError(
                f"{self.tensors[name].file.name}: the tensor {name} is not finite in {dtype}: the models' weights are, "
                "so the parameters make it so large; choose smaller weights or a larger --dtype"
            )
        view, place = memoryview(cast.view(-1).view(torch.uint8).numpy()), self._data + self._begins[name]
        done = 0
        while done < len(view):
            done += os.pwrite(self._handle, view[done:], place + done)


def check_disk(base: ModelFolder, dtype: str | None, out: Path) -> None:
    """Check that a model of the base's shapes will fit on the disk of `out`.

    Args:
        base: the model.
        dtype: of the new weights as safetensors calls it; None for the base's own.
        out: the folder to be written.

    Raises:
        UserError: naming the folder, the room found and needed.
    """
    needed = sum(tensor.numel * ITEM_BYTES[dtype or tensor.dtype] for tensor in base.tensors.values())
    needed = int(needed * 1.02) + 2**26  # with the other files
    existing = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if shutil.disk_usage(existing).free < needed:
        raise UserError(f"{out}: {os.strerror(errno.ENOSPC)}: needs {size_text(needed)}, {room(out)}")

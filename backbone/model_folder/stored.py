"""A model folder on this machine: its JSON files, and its weights tensor by tensor, read on demand."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from backbone.model_folder.architecture import DEFAULTS, EMBEDDING, PROJECTION
from backbone.model_folder.locate import weight_files
from common.errors import UserError
from common.input_files import check_file
from common.json_lines import read_object

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_DIGESTS: dict[tuple[Any, ...], str] = {}  # by file and tensor; several merges of the same models share them


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: its file, its name there, its dtype (safetensors' code) and shape."""

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many entries it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine; `backbone.model_folder.read.read` checks it before handing it out.

    Attributes:
        path: its folder.
        name: what the user called it by: a path or a Hub id.
        label: a short name for tables and titles.
    """

    path: Path
    name: str
    label: str = ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`, with transformers' defaults for what it leaves out."""
        return DEFAULTS | self.json("config.json")

    @cached_property
    def stored(self) -> dict[str, StoredTensor]:
        """The tensors as the files name them."""
        found: dict[str, StoredTensor] = {}
        for file in weight_files(self.path):
            handle = self._open(file)
            for key in handle.keys():  # noqa: SIM118 (no mapping)
                view = handle.get_slice(key)
                found[key] = StoredTensor(file, key, view.get_dtype(), tuple(view.get_shape()))
        return found

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The model's tensors; a tied output projection goes by the embedding's name."""
        found = dict(self.stored)
        if self.config["tie_word_embeddings"] and PROJECTION in found:
            tied = found.pop(PROJECTION)
            found.setdefault(EMBEDDING, tied)
        return found

    @cached_property
    def numel(self) -> int:
        """Entries of all tensors."""
        return sum(tensor.numel for tensor in self.tensors.values())

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as it is stored; it may be memory-mapped from the file and must not be written to."""
        return self.contents(self.tensors[name])

    def contents(self, stored: StoredTensor) -> Tensor:
        """Return the entries of a stored tensor."""
        if stored.file not in self._handles:
            self._handles[stored.file] = self._open(stored.file)
        return self._handles[stored.file].get_tensor(stored.key)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Return the rows [first, last) of a tensor as float32.

        The file is opened and closed each time (a quarter of a millisecond), so that no page of it stays mapped: memory
        is bounded by the rows asked for.

        Args:
            name: the tensor's.
            first: the first row.
            last: the row after the last one.
        """
        stored = self.tensors[name]
        with self._open(stored.file) as file:
            return file.get_slice(stored.key)[first:last].float()

    def json(self, file: str) -> dict[str, Any]:
        """Read one of the folder's JSON files.

        Raises:
            UserError: where it is missing or holds no mapping.
        """
        if not (self.path / file).exists():
            raise UserError(f"{self.path}: has no {file}; is it a model folder?")
        try:
            return read_object(self.path / file)
        except UserError as error:
            raise UserError(f"{error}; copy or download it again") from None

    def json_or_nothing(self, file: str) -> dict[str, Any]:
        """Read one of the folder's JSON files; a missing one is empty."""
        return self.json(file) if (self.path / file).exists() else {}

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The tokenizer's tokens and their ids; empty where the folder has no tokenizer.

        Raises:
            UserError: where its files hold something else.
        """
        try:
            if tokenizer := self.json_or_nothing("tokenizer.json"):
                added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
                found = dict(tokenizer.get("model", {}).get("vocab", {})) | added
            elif found := self.json_or_nothing("vocab.json"):
                found |= self.json_or_nothing("added_tokens.json")
            if not all(type(number) is int and number >= 0 for number in found.values()):
                raise ValueError
        except (AttributeError, TypeError, KeyError, ValueError):
            raise UserError(f"{self.path}: its tokenizer cannot be read; copy tokenizer.json from the base") from None
        return found

    @cached_property
    def extractors(self) -> dict[str, dict[str, Any]]:
        """What each of the folder's processor files says of the feature extractor."""
        files = {file: self.json_or_nothing(file) for file in PROCESSORS}
        inner = {file: content.get("feature_extractor", content) for file, content in files.items() if content}
        return {file: content for file, content in inner.items() if isinstance(content, dict)}

    @cached_property
    def weights_hash(self) -> str:
        """A SHA-256 over the names, dtypes, shapes and bytes of the tensors, however they are divided over files.

        Raises:
            UserError: where a weight is not finite, naming the tensor.
        """
        names = sorted(self.tensors)
        with ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(self.digest, names))
        lines = [
            f"{name} {self.tensors[name].dtype} {list(self.tensors[name].shape)} {digest}\n"
            for name, digest in zip(names, digests, strict=True)
        ]
        return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a tensor's bytes, computed once a process, as long as the file does not change.

        Raises:
            UserError: where a weight is not finite, naming the tensor.
        """
        import torch

        stored = self.tensors[name]
        state = stored.file.stat()
        place = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, stored.key)
        if place not in _DIGESTS:
            tensor = self.tensor(name)
            check_finite(self, name, tensor)
            _DIGESTS[place] = hashlib.sha256(tensor.flatten().view(torch.uint8).numpy()).hexdigest()
        return _DIGESTS[place]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open files, so that the folder can be sent to another process."""
        return {name: value for name, value in vars(self).items() if name != "_handles"}

    @cached_property
    def _handles(self) -> dict[Path, Any]:
        return {}

    @staticmethod
    def _open(file: Path) -> Any:
        try:
            return safe_open(check_file(file), framework="pt")
        except (SafetensorError, OSError, ValueError) as error:
            reason = str(error)[:200]
            raise UserError(
                f"{file}: not a safetensors file, or cut short ({reason}); copy or download it again"
            ) from None


def check_finite(folder: ModelFolder, name: str, tensor: Tensor) -> None:
    """Check that a tensor of a model has neither NaN nor infinite entries.

    Args:
        folder: the model.
        name: the tensor's.
        tensor: its entries.

    Raises:
        UserError: naming the model and the tensor.
    """
    if not all_finite(tensor):
        raise UserError(f"{folder.name}: the tensor {name} holds NaN or infinite weights; did its training diverge?")


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinite entries; its sum is tried first, which is fast but may overflow."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())

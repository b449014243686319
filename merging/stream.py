"""The engine of our own: from safetensors to safetensors, a stretch of rows at a time, on every core.

A parameter is read in chunks of some megabytes and merged in blocks that stay in a core's cache; what a method must
know of a whole parameter is measured in a pass of its own, which the operating system serves from memory. Each thread
merges whole parameters, so that nothing depends on their number; memory does not grow with the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merging import sparsify
from merging.blocks import Block
from merging.inputs import Inputs, not_finite
from merging.statistics import Moments, Statistics
from merging.tensors import Entry, Writer, to_float32, word_sum

CHUNK = 2**18
"""Elements that are read and written at once."""
BLOCK = 2**16
"""Elements that are computed at once: few enough that the arrays stay in a core's cache."""
ANGLES = 4
"""Of so many blocks in a chunk one is measured for angles and conflicts."""
_RUN = 2**10
_BIG = 2**24


@dataclass
class Parameter:
    """One parameter of every model as `Rows`."""

    inputs: Inputs
    name: str
    generators: list[np.random.SFC64] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Finds the parameter in every model."""
        folders = [self.inputs.base, *self.inputs.models]
        self.entries: list[Entry] = [folder.tensors[self.name] for folder in folders]
        entry, layout = self.entries[0], self.inputs.layout
        self.numel = entry.numel
        self.shape = entry.shape if len(entry.shape) > 1 else (1, self.numel)
        self.row = self.numel // max(1, self.shape[0])
        self.place = (layout.depth(self.name), layout.layer(self.name), layout.total)
        self.offset = self.inputs.offsets[self.name]

    def random(self, model: int, count: int) -> NDArray[np.uint32]:
        """Draws a model's next random numbers for this parameter."""
        return self.generators[model].random_raw((count + 1) // 2).view(np.uint32)[:count]

    def __iter__(self) -> Iterator[Block]:
        """Runs through the rows from the first, the random numbers too."""
        if "seed" in self.inputs.parameters:
            seed = self.inputs.parameters["seed"]
            labels = [model.label for model in self.inputs.models]
            self.generators = [np.random.SFC64(self.inputs.seed(seed, label, self.name)) for label in labels]
        for first, last in self.chunks():
            yield from self.blocks(self.read(first, last), first)

    def sample(self, count: int) -> Iterator[Block]:
        """Yields some rows, evenly spread, of about so many elements."""
        rows = max(1, _RUN // self.row)
        step = max(1, self.numel // max(count, _RUN)) * rows
        for row in range(0, self.shape[0], step):
            first, last = row * self.row, min(self.shape[0], row + rows) * self.row
            yield from self.blocks(self.read(first, last), first)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yields the flat ranges of whole rows that are read at once."""
        step = max(1, CHUNK // max(1, self.row)) * self.row
        for first in range(0, self.numel, step):
            yield first, min(self.numel, first + step)

    def read(self, first: int, last: int) -> list[NDArray[Any]]:
        """Reads the elements [first, last) of the base and every model, as they lie in the files."""
        return [self.inputs.reader.read(entry, first, last) for entry in self.entries]

    def blocks(self, arrays: list[NDArray[Any]], first: int) -> Iterator[Block]:
        """Cuts what was read, from the element `first` on, into blocks of whole rows in float32."""
        depth, layer, layers = self.place
        step = max(1, BLOCK // max(1, self.row)) * self.row
        for begin in range(0, arrays[0].size, step):
            shape = (-1, *self.shape[1:])
            base, *models = [to_float32(array[begin : begin + step]).reshape(shape) for array in arrays]
            yield Block(base, models, self.offset + first + begin, depth, layer, layers)


def merge(inputs: Inputs, writer: Writer, *, only_step: bool = False) -> Statistics:
    """Merges every parameter and writes it, or with `only_step` the merged step; returns what the merge did.

    Raises:
        UserError: where a weight is not finite, naming the model and the tensor.
    """
    _keep_freed_memory()
    statistics = Statistics(len(inputs.models))
    names = sorted(writer.entries, key=lambda name: inputs.base.tensors[name].numel < _BIG)  # the long jobs first
    with ThreadPoolExecutor(cores()) as pool:
        common = _measure_together(inputs, pool.map)
        jobs = [pool.submit(_merge_parameter, inputs, writer, name, common, only_step) for name in names]
        try:
            for job in as_completed(jobs):
                name, moments, sums = job.result()
                statistics.add(name, moments, sums)
                inputs.progress(inputs.base.tensors[name].numel, inputs.numel)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return statistics


def _merge_parameter(
    inputs: Inputs, writer: Writer, name: str, facts: Any, only_step: bool
) -> tuple[str, Moments, list[int]]:
    rows, method, values = Parameter(inputs, name), inputs.method, inputs.values(name)
    step_length = np.float32(values.pop("lambda", 1.0))
    moments, sums = Moments(len(inputs.models)), [0] * len(rows.entries)
    with np.errstate(all="ignore"):  # weights that are not finite are found below, and named
        if facts is None and method.measure is not None:
            facts = _measure(inputs, name, lambda: method.measure(rows, **values))  # type: ignore[misc]
        for first, last in rows.chunks():
            arrays = rows.read(first, last)
            sums = [total + word_sum(array) for total, array in zip(sums, arrays, strict=True)]
            merged = np.empty(last - first, np.float32)
            for number, block in enumerate(rows.blocks(arrays, first)):
                place = block.start - rows.offset - first
                out = merged[place : place + block.base.size].reshape(block.base.shape)
                result = method.merge(block, facts, **values)
                if method.returns_step:
                    step = result if step_length == 1 else result * step_length
                else:
                    step = result - block.base
                if only_step:
                    out[...] = step
                elif method.returns_step:
                    np.add(block.base, step, out=out)
                else:
                    out[...] = result
                moments.add(block, step, angles=number % ANGLES == 0)
            if not moments.finite:
                _refuse(inputs, name)
            writer.write(name, merged, first)
    return name, moments, sums


def _measure_together(inputs: Inputs, run: Callable[..., Iterable[Any]]) -> Any:
    """What is measured over all parameters at once: the cuts of a global trim."""
    if inputs.parameters.get("trim") != "global":
        return None
    names = sorted(inputs.base.tensors)
    values = inputs.values(names[0])
    rows = [Parameter(inputs, name) for name in names]
    return _measure(inputs, None, lambda: sparsify.largest(*rows, density=values["density"], run=run))


def _measure(inputs: Inputs, name: str | None, measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except FloatingPointError:
        for each in sorted(inputs.base.tensors) if name is None else [name]:
            _refuse(inputs, each)
        raise


def _refuse(inputs: Inputs, name: str) -> None:
    """Raises a `UserError` naming the first model with weights in this tensor that are not finite."""
    for folder in (inputs.base, *inputs.models):
        entry = folder.tensors[name]
        for first in range(0, entry.numel, CHUNK):
            array = to_float32(inputs.reader.read(entry, first, min(entry.numel, first + CHUNK)))
            if not np.isfinite(array).all():
                raise not_finite(folder, name)


def _keep_freed_memory() -> None:
    """Makes the C library keep what is freed for the next array, where it would give it back and fault it in again.

    glibc raises its thresholds to the largest mapped block it has seen freed; this one is never touched.
    """
    np.empty(31 * 2**20, np.uint8)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

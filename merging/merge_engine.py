"""Our own engine: from safetensors to safetensors, tensor by tensor, on every core.

Tensors are merged in float32 and cast once, each on one core, the largest (the token embedding) first. So memory
depends on the largest tensor and not on the model, and the result does not depend on the number of threads.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from backbone.model_folder.geometry import TaskVectorGeometry
from backbone.model_folder.stored import check_finite
from backbone.model_folder.write import SafetensorsWriter
from merging.inputs import MergeInputs
from merging.layout import module_of

_STRETCH = 2**18  # entries measured at once: few enough for a core's cache
_SIGNS = 8  # signs are compared in one of so many stretches
_MOST_WORKERS = 4


MergeGeometry = dict[str, TaskVectorGeometry]
"""What a merge did, by module: the geometry of the task vectors and, as the last vector, of the merged step."""
MergeTensor = Callable[[MergeInputs, str], Tensor]


def merge_tensor(inputs: MergeInputs, name: str) -> Tensor:
    """Return one tensor merged in float32."""
    models = [model.tensor(name).float() for model in inputs.models]
    return inputs.merged(name, inputs.base.tensor(name).float(), models)


def merge(inputs: MergeInputs, writer: SafetensorsWriter, merged: MergeTensor) -> MergeGeometry:
    """Merge every tensor and write it.

    Args:
        inputs: what is merged.
        writer: the file to fill.
        merged: merges one tensor; another engine passes its own function.

    Returns:
        What the merge did.

    Raises:
        UserError: where a weight is not finite, naming the model and the tensor.
    """
    geometry: MergeGeometry = {}

    def work(name: str) -> TaskVectorGeometry:
        for folder in (inputs.base, *inputs.models):
            folder.digest(name)  # for the card; refuses weights that are not finite
        result = merged(inputs, name)
        writer.write(name, result)
        return _measured(inputs, name, result)

    with tqdm(total=inputs.base.numel, unit=" weights", unit_scale=True, disable=None, leave=False) as bar:
        for name, part in _side_by_side(inputs, work):
            module = module_of(name)
            geometry[module] = geometry[module] + part if module in geometry else part
            bar.update(inputs.base.tensors[name].numel)
    return geometry


def write_steps(inputs: MergeInputs, writer: SafetensorsWriter) -> None:
    """Write the merged step of every tensor at lambda 1, exactly: the merge of the task vectors over a base of zeros.

    Raises:
        UserError: as `merge`.
    """

    def work(name: str) -> None:
        for folder in (inputs.base, *inputs.models):
            check_finite(folder, name, folder.tensor(name))
        base = inputs.base.tensor(name).float()
        deltas = [model.tensor(name).float() - base for model in inputs.models]
        result = inputs.merged(name, torch.zeros_like(base), deltas, lambda_=1.0)
        writer.write(name, result)

    for _ in _side_by_side(inputs, work):
        pass


def _side_by_side(inputs: MergeInputs, work: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Yield each tensor's name and result, the largest first; each is computed on one core."""
    names = sorted(inputs.base.tensors, key=lambda name: -inputs.base.tensors[name].numel)
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(cores(), _MOST_WORKERS), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from zip(names, pool.map(work, names), strict=True)
    finally:
        torch.set_num_threads(threads)


def _measured(inputs: MergeInputs, name: str, result: Tensor) -> TaskVectorGeometry:
    """Return a tensor's geometry."""
    count = len(inputs.models)
    part = TaskVectorGeometry.zero(count + 1)
    vectors = [model.tensor(name).flatten() for model in inputs.models] + [result.flatten()]
    base = inputs.base.tensor(name).flatten()
    for number, first in enumerate(range(0, len(base), _STRETCH)):
        base_E = base[first : first + _STRETCH].float()
        delta_ME = torch.stack([vector[first : first + _STRETCH].float() for vector in vectors]).sub_(base_E)
        part.add(base_E, delta_ME, signed=0 if number % _SIGNS else count)
    return part


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

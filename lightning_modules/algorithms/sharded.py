"""Tensors of which each rank may hold a part (FSDP2's `DTensor`); whole tensors pass through as they are."""

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor; every rank must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """Return this rank's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sum_of_parts(value: Tensor, like: Tensor) -> Tensor:
    """Sum over ranks what each computed from its part of `like`; unchanged where each has the whole."""
    if not isinstance(like, DTensor):
        return value
    total = value.to(like.device)  # where the ranks can exchange it
    distributed.all_reduce(total)
    return total.to(value.device)


def drawn_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw N(0, 1) in the shape of `like`: the same numbers, however it is divided."""
    noise = torch.empty(like.shape, dtype=like.dtype, device=like.device).normal_(generator=generator)
    if isinstance(like, DTensor):  # each rank has drawn the whole tensor
        return distribute_tensor(noise, like.device_mesh, like.placements, src_data_rank=None)
    return noise

"""Ranks whose weights have parted are told apart before a model is written."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from common.errors import UserError
from lightning_modules.ranks import check_replicas


def _compare(rank: int, parted: str | None, folder: Path) -> None:
    rank_zero_only.rank = rank
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double(), nn.Linear(2, 2).bfloat16())
    if rank == 1 and parted:
        weight = module.get_parameter(parted).data.view(-1)
        weight[-1] = torch.nextafter(weight[-1].float(), torch.tensor(9.0)) if weight.dtype == torch.float32 else 2.0
    try:
        check_replicas(module)
    except (UserError, SystemExit) as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("parted", [None, "0.weight", "1.bias", "2.weight"])
def test_ranks_that_have_parted_write_no_model(parted: str | None, tmp_path: Path):
    """By one bit of one weight: the first rank says where, the other ends without a word of its own."""
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_compare, args=(rank, parted, tmp_path)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    found = [file.read_text() for file in sorted(tmp_path.glob("*.txt"))]
    said = f"UserError: the ranks end with different weights, first in {parted}; nothing was exported"
    assert found == ([said, "SystemExit: 2"] if parted else [])

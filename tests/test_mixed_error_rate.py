"""The metric against pooled counts, in one process and in two."""

import math
import random

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from callbacks.mixed_error_rate import MixedErrorRate
from common.errors import UserError
from scoring.edit_alignment import Counts
from scoring.metrics import score


def utterances(count=101):
    draw = random.Random(0)
    words = ["이번", "project", "데이터", "für", "x"]
    references = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(count)]
    return references, [" ".join(draw.choices(words, k=draw.randint(0, 9))) for _ in range(count)]


def test_counts_of_batches_add_up_to_the_whole():
    metric = MixedErrorRate()
    metric.update(["이번 projekt는", ""], ["이번 project는", "a b"])
    metric.update(["c d"], ["c"])
    # 1 of 4 substituted, 2 of 2 deleted, 1 inserted beside 1.
    assert metric.counts == Counts(hits=4, substitutions=1, deletions=2, insertions=1)
    assert metric.compute() == 4 / 7
    assert metric.compute().dtype == torch.float64
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert math.isnan(metric.compute())


def test_it_uses_its_profile_and_refuses_empty_references():
    metric = MixedErrorRate("wer")
    metric.update(["데이터 를"], ["데이터를"])
    assert metric.compute() == 2
    with pytest.raises(UserError, match="no token"):
        metric.update(["x"], ["…"])


def test_counts_stay_integers_above_what_float32_can_count():
    metric = MixedErrorRate()
    metric.hits += 2**24 + 1
    metric.update(["a"], ["b"])
    assert metric.half().counts == Counts(hits=2**24 + 1, substitutions=1)


def _rank(rank, folder, results):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    references, hypotheses = utterances()
    metric = MixedErrorRate()
    mine = slice(0, 30) if rank == 0 else slice(30, None)  # unequal parts
    metric.update(hypotheses[mine], references[mine])
    results[rank] = float(metric.compute())
    dist.destroy_process_group()


def test_two_processes_give_exactly_what_one_gives(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_rank, args=(str(tmp_path), results), nprocs=2)
        found = dict(results)
    references, hypotheses = utterances()
    expected = score(references, hypotheses).micro
    assert found == {0: expected, 1: expected}

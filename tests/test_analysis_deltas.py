"""Delta statistics against loops and figures worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from analysis import deltas
from analysis.analyze_models import suggested_threshold
from analysis.deltas import MODULES, Place, PlaceMeasure, measure, place_of
from backbone.model_folder.stored import ModelFolder
from common.errors import UserError
from tests.analysis_models import shifted, tensors, write


def measured(root: Path, base: dict, *fine_tunes: dict, shards: int = 1) -> dict[Place, PlaceMeasure]:
    opened = ModelFolder(write(root / "base", base, shards), "base")
    models = [
        ModelFolder(write(root / f"m{number}", weights, shards), f"m{number}")
        for number, weights in enumerate(fine_tunes)
    ]
    return measure(opened, models)


def mean_absolute_rows(base: torch.Tensor, tuned: torch.Tensor) -> list[float]:
    """Row by row, entry by entry, in Python's floats."""
    found = []
    for base_row, tuned_row in zip(base.tolist(), tuned.tolist(), strict=True):
        total = 0.0
        for before, after in zip(base_row, tuned_row, strict=True):
            total += abs(after - before)
        found.append(total / len(base_row))
    return found


def test_every_projection_of_a_real_whisper_has_a_place(tiny_model: Path):
    shapes = {name: tensor.shape for name, tensor in ModelFolder(tiny_model, "tiny").tensors.items()}
    places = [place_of(name) for name in shapes if place_of(name).is_projection]
    expected = {Place("encoder", layer, m) for layer in (0, 1) for m in MODULES if not m.startswith("cross")}
    expected |= {Place("decoder", layer, module) for layer in (0, 1) for module in MODULES}
    assert len(places) == len(expected) == 32
    assert set(places) == expected
    assert all(len(shape) == 2 for name, shape in shapes.items() if place_of(name).is_projection)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.decoder.layers.11.encoder_attn.out_proj.weight", Place("decoder", 11, "cross out")),
        ("encoder.layers.0.fc2.weight", Place("encoder", 0, "fc2")),
        ("model.encoder.layers.3.self_attn.v_proj.bias", Place("encoder", 3, "other")),
        ("model.decoder.layers.3.encoder_attn_layer_norm.weight", Place("decoder", 3, "other")),
        ("model.decoder.embed_tokens.weight", Place("", None, "other")),
        ("model.encoder.layer_norm.weight", Place("", None, "other")),
    ],
)
def test_places(name: str, place: Place):
    assert place_of(name) == place


def test_mean_absolute_values_equal_a_loop(tmp_path: Path):
    base = tensors(encoder=2, decoder=2)
    tuned = shifted(base, 1e-4, 1)
    found = measured(tmp_path, base, tuned)
    checked = 0
    for name in base:
        place = place_of(name)
        if place.is_projection:
            rows = mean_absolute_rows(base[name], tuned[name])
            assert found[place].rows_MR[0].tolist() == pytest.approx(rows, rel=1e-5)
            threshold = sorted(rows)[1] * 1.0001  # just above the second smallest
            assert found[place].percent_above(0, threshold) == 100 * (len(rows) - 2) / len(rows)
            checked += 1
    assert checked == 2 * 6 + 2 * 10


def test_a_known_fraction_of_shifted_rows_is_that_percentage(tmp_path: Path):
    base = {name: torch.zeros_like(tensor) for name, tensor in tensors(width=8).items()}
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    rows = {
        "encoder.layers.0.self_attn.k_proj": 3,
        "decoder.layers.0.encoder_attn.v_proj": 8,
        "decoder.layers.0.fc1": 5,
    }
    for name, count in rows.items():
        tuned[f"model.{name}.weight"][:count] += 1e-4
        tuned[f"model.{name}.weight"][:count, ::2] *= -1  # the sign of a change does not matter
    found = measured(tmp_path, base, tuned)
    expected = {
        Place("encoder", 0, "self k"): 37.5,  # 3 of 8
        Place("decoder", 0, "cross v"): 100.0,
        Place("decoder", 0, "fc1"): 31.25,  # 5 of 16
    }
    for place, one in found.items():
        if place.is_projection:
            assert one.percent_above(0, 5e-5) == expected.get(place, 0.0)
            assert one.percent_above(0, 2e-4) == 0.0


def test_rows_at_the_threshold_do_not_exceed_it(tmp_path: Path):
    base = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
    tuned = {name: torch.full_like(tensor, 0.25) for name, tensor in base.items()}
    assert measured(tmp_path, base, tuned)[Place("encoder", 0, "fc1")].percent_above(0, 0.25) == 0.0


A, B, C = [[1.0, 0.0], [2.0, -1.0]], [[1.0, 1.0], [-2.0, 0.0]], [[-1.0, 1.0], [0.0, 0.0]]
SELF_Q = "model.encoder.layers.0.self_attn.q_proj.weight"


def test_cosines_norms_and_conflicts_by_hand(tmp_path: Path):
    base = {SELF_Q: torch.tensor([[3.0, 0.0], [0.0, 4.0]])}
    one = measured(tmp_path, base, *({SELF_Q: base[SELF_Q] + torch.tensor(delta)} for delta in (A, B, C)))
    found = one[Place("encoder", 0, "self q")]
    norms = [found.geometry.norm(model) for model in range(3)]
    assert norms == pytest.approx([math.sqrt(6), math.sqrt(6), math.sqrt(2)])
    assert found.geometry.relative_norm(2) == pytest.approx(100 * math.sqrt(2) / 5)
    assert found.geometry.cosine(0, 1) == pytest.approx(-3 / 6)
    assert found.geometry.cosine(0, 2) == pytest.approx(-1 / math.sqrt(12))
    assert found.geometry.cosine(1, 2) == pytest.approx(0.0)
    assert found.geometry.conflict([0, 1]) == (2, 1)  # 1 and 1 agree, 2 and -2 do not; the others are zero in one
    assert found.geometry.conflict([1, 2]) == (2, 1)
    assert found.geometry.conflict([0, 2]) == (1, 1)
    # By entry: (1, 1, -1) conflict, (0, 1, 1) agree, (2, -2, 0) conflict, (-1, 0, 0) changed by one model alone.
    assert found.geometry.conflict([0, 1, 2]) == (3, 2)
    assert found.geometry.percent_conflict([0, 1, 2]) == pytest.approx(200 / 3)


def test_undefined_figures_are_nan(tmp_path: Path):
    base = tensors()
    found = measured(tmp_path, base, base, shifted(base, 1e-3, 1))
    one = found[Place("decoder", 0, "cross q")]
    assert one.geometry.norm(0) == 0.0
    assert math.isnan(one.geometry.cosine(0, 1))
    assert math.isnan(one.geometry.percent_conflict([0, 1]))


def test_the_total_is_that_of_all_tensors_in_a_row(tmp_path: Path):
    base = tensors(encoder=2)
    tuned = [shifted(base, 1e-3, seed) for seed in (1, 2)]
    total = PlaceMeasure.total(measured(tmp_path, base, *tuned).values())
    first, second = (torch.cat([(one[name] - base[name]).double().flatten() for name in base]) for one in tuned)
    assert total.geometry.parameters == len(first)
    assert total.geometry.norm(0) == pytest.approx(first.norm().item(), rel=1e-6)
    assert total.geometry.cosine(0, 1) == pytest.approx(
        (first @ second / first.norm() / second.norm()).item(), abs=1e-6
    )
    assert total.geometry.conflict([0, 1]) == (len(first), int((first * second < 0).sum()))


def test_stretches_and_shards_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = tensors(width=8)
    tuned = [shifted(base, 1e-3, seed) for seed in (1, 2, 3)]
    whole = measured(tmp_path / "whole", base, *tuned)
    monkeypatch.setattr(deltas, "_STRETCH", 20)  # two or three rows at a time, one of the widest
    pieces = measured(tmp_path / "pieces", base, *tuned, shards=3)
    assert list(pieces) == list(whole)
    for place, one in pieces.items():
        assert torch.equal(one.rows_MR, whole[place].rows_MR)
        assert torch.allclose(one.geometry.gram_MM, whole[place].geometry.gram_MM, rtol=1e-5, atol=1e-9)
        assert torch.equal(one.geometry.opposed_MM, whole[place].geometry.opposed_MM)
        assert (one.geometry.parameters, one.geometry.shared, one.geometry.opposed) == (
            whole[place].geometry.parameters, whole[place].geometry.shared, whole[place].geometry.opposed,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_subtracted_in_float32(tmp_path: Path, dtype: torch.dtype):
    base = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    tuned = {name: tensor.float() + 1e-5 for name, tensor in base.items()}  # below half a unit in the last place
    for place, one in measured(tmp_path, base, tuned).items():
        if place.is_projection:
            assert one.rows_MR[0].tolist() == pytest.approx([1e-5] * one.rows_MR.shape[1], rel=1e-2)


def test_the_tied_projection_does_not_count(tmp_path: Path):
    base = tensors()
    tied = base | {"proj_out.weight": base["model.decoder.embed_tokens.weight"].clone()}
    total = PlaceMeasure.total(measured(tmp_path, base, tied).values())
    assert total.geometry.parameters == sum(tensor.numel() for tensor in base.values())


def test_the_suggested_threshold_is_the_median_of_changed_rows(tmp_path: Path):
    base = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    # Three rows changed, by 0.00111, 0.00222 and 0.00333 on average; all others, and the embedding, say nothing.
    tuned[SELF_Q][:3] = torch.tensor([[0.00111], [0.00222], [0.00333]])
    tuned["model.decoder.embed_tokens.weight"] += 1.0
    assert suggested_threshold(measured(tmp_path / "some", base, tuned)) == 0.0022
    assert suggested_threshold(measured(tmp_path / "none", base, base)) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, bad: float):
    base = tensors()
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["model.decoder.layers.0.fc2.weight"][1, 1] = bad
    with pytest.raises(UserError, match=r"m1: the tensor model.decoder.layers.0.fc2.weight holds NaN or infinite"):
        measured(tmp_path / "tuned", base, base, tuned)
    with pytest.raises(UserError, match=r"base: the tensor model.decoder.layers.0.fc2.weight"):
        measured(tmp_path / "base", tuned, base)

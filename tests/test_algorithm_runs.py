"""Every algorithm in real runs by Lightning: exact resume, two ranks, micro-batches, checkpointing, refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy

from common.errors import UserError
from lightning_modules import algorithms
from lightning_modules.ranks import fsdp
from lightning_modules.trainer_checks import check_pairs, check_trainer
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import SHARDED, SGDModule, fit, make, weights
from training.training_run import TrainingRun

NAMES = [name for name, _ in algorithms.named()]


@pytest.mark.parametrize("name", NAMES)
def test_resuming_from_a_checkpoint_changes_no_bit(name: str, tiny_model: Path, manifests: dict[str, str], tmp_path):
    whole = fit(tiny_model, manifests, tmp_path, make(name), save_at=2)
    resumed = fit(tiny_model, manifests, tmp_path / "again", make(name), resume=tmp_path / "saved.ckpt")
    for (parameter, ours), theirs in zip(weights(whole).items(), weights(resumed).values(), strict=True):
        assert torch.equal(ours, theirs), parameter
    for ours, theirs in zip(whole.algorithm.buffers(), resumed.algorithm.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def erm(tiny_model: Path, manifests: dict[str, str], tmp_path_factory) -> dict[str, torch.Tensor]:
    """ERM's weights after three steps of AdamW with clipping, in micro-batches."""
    return weights(fit(tiny_model, manifests, tmp_path_factory.mktemp("erm"), make("ERM"), steps=3, accumulate=2))


@pytest.mark.parametrize(("name", "kind"), [named for named in algorithms.named() if named[1].strength])
def test_strength_zero_is_erm_to_the_last_bit(
    name: str, kind: type, erm: dict[str, torch.Tensor], tiny_model: Path, manifests: dict[str, str], tmp_path
):
    zero = make(name, **{kind.strength: 0.0})
    run = weights(fit(tiny_model, manifests, tmp_path, zero, steps=3, accumulate=2))
    assert all(torch.equal(run[parameter], expected) for parameter, expected in erm.items())


@pytest.fixture(scope="module")
def two_ranks(tiny_model: Path, manifests: dict[str, str], tmp_path_factory) -> Path:
    """The weights after training on two gloo ranks, by algorithm, micro-batches and rank."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    arguments = [str(tiny_model), json.dumps(manifests), str(folder)]
    ranks = [
        subprocess.Popen([sys.executable, "-m", "tests.algorithm_runs", *arguments, str(rank)], env=environment)
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=900) for rank in ranks] == [0, 0]
    return folder


@pytest.mark.parametrize(("name", "accumulate"), [(name, 1) for name in NAMES] + [("ERM", 2), ("Fishr", 2)])
def test_two_ranks_equal_one_process(
    name: str, accumulate: int, two_ranks: Path, tiny_model: Path, manifests: dict[str, str], tmp_path
):
    """Two utterances of each pair on each rank are the four that one process draws; with SGD, in float64."""
    one = weights(
        fit(
            tiny_model,
            manifests,
            tmp_path,
            make(name),
            kind=SGDModule,
            utterances=4,
            steps=3,
            trainer={"precision": "64-true"},
        )
    )
    first, second = (torch.load(two_ranks / f"{name}-{accumulate}-{rank}.pt") for rank in (0, 1))
    start = weights(loaded(tiny_model))
    for parameter, expected in one.items():
        assert torch.equal(first[parameter], second[parameter]), parameter
        torch.testing.assert_close(first[parameter], expected, rtol=1e-9, atol=1e-11, msg=parameter)
    moved = max(float((one[parameter] - start[parameter]).abs().max()) for parameter in one)
    assert moved > 1e-3


@pytest.mark.parametrize(("name", "accumulate"), [(name, 1) for name in SHARDED] + [("ERM", 2), ("Fishr", 2)])
def test_weights_divided_over_two_ranks_end_as_whole_ones(
    name: str, accumulate: int, two_ranks: Path, tiny_model: Path, manifests: dict[str, str], tmp_path
):
    """FSDP knows no float64: the tolerance is float32's rounding, a millionth of the way that the weights go."""
    one = weights(fit(tiny_model, manifests, tmp_path, make(name), kind=SGDModule, utterances=4, steps=3))
    sharded = torch.load(two_ranks / f"{name}-{accumulate}-fsdp-0.pt")
    for parameter, expected in one.items():
        torch.testing.assert_close(sharded[parameter], expected, rtol=1e-6, atol=1e-7, msg=parameter)


def test_the_paper_s_methods_can_be_sharded():
    assert set(SHARDED) == {"ERM", "Fish", "Fishr", "GGAL"}


def loaded(model: Path) -> WhisperModule:
    module = WhisperModule(str(model))
    module._load()
    return module


@pytest.mark.parametrize("name", ["ERM", "Fishr"])
def test_micro_batches_change_nothing(name: str, tiny_model: Path, manifests: dict[str, str], tmp_path):
    same = {"kind": SGDModule, "steps": 2, "trainer": {"precision": "64-true"}}
    whole, parts = (
        weights(fit(tiny_model, manifests, tmp_path, make(name), accumulate=accumulate, **same))
        for accumulate in (1, 3)
    )
    for parameter, expected in whole.items():
        torch.testing.assert_close(parts[parameter], expected, rtol=1e-9, atol=1e-11)


def test_fishr_with_checkpointing_equals_fishr_without(tiny_model: Path, manifests: dict[str, str], tmp_path):
    """Also in that SDPA attention stays: no double backward is needed."""
    same = {"kind": SGDModule, "steps": 2, "trainer": {"precision": "64-true"}}
    runs = [
        fit(tiny_model, manifests, tmp_path, make("Fishr"), gradient_checkpointing=on, **same) for on in (False, True)
    ]
    assert runs[0].model.config._attn_implementation == "sdpa"
    for ours, theirs in zip(weights(runs[0]).values(), weights(runs[1]).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_fishr_under_bf16_autocast_moves_nearly_as_in_float32(tiny_model: Path, manifests: dict[str, str], tmp_path):
    start = torch.cat([w.flatten() for w in weights(loaded(tiny_model)).values()])
    moves = []
    for precision in ("32-true", "bf16-mixed"):
        module = fit(
            tiny_model, manifests, tmp_path, make("Fishr"), kind=SGDModule, steps=2, trainer={"precision": precision}
        )
        moves.append(torch.cat([w.flatten() for w in weights(module).values()]) - start)
    assert (moves[0] - moves[1]).norm() < 0.02 * moves[0].norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_too_few_is_refused(name: str):
    needed = make(name).needs(1).min_pairs
    assert needed == (1 if name in ("ERM", "SAM") else 2)
    check_pairs(make(name), needed)
    with pytest.raises(UserError, match=f"{name} compares language pairs and needs at least {needed}.*; add a pair"):
        check_pairs(make(name), needed - 1)


def test_it_is_refused_before_the_first_step(tiny_model: Path, manifests: dict[str, str], tmp_path, monkeypatch):
    monkeypatch.setattr("tests.algorithm_runs.PAIRS", ("ko-en",))
    with pytest.raises(UserError, match="Fish compares language pairs and needs at least 2, data.train names 1"):
        fit(tiny_model, manifests, tmp_path, make("Fish"))


@pytest.mark.parametrize(
    ("strategy", "precision", "message"),
    [
        (
            FSDPStrategy(),
            "32-true",
            "trainer.strategy is FSDPStrategy, which Fish is not made for; choose ddp, or fsdp",
        ),
        (DDPStrategy(gradient_as_bucket_view=True), "32-true", "overwrite gradients that Fish holds"),
        (DDPStrategy(), "16-mixed", "trainer.precision is 16-mixed: .* choose 32-true or"),
        (SingleDeviceStrategy(), "bf16-true", "trainer.precision is bf16-true"),
    ],
)
def test_what_an_algorithm_cannot_work_with_is_refused(strategy: object, precision: str, message: str):
    with pytest.raises(UserError, match=message):
        check_trainer(make("Fish"), SimpleNamespace(strategy=strategy, precision=precision))


def test_sharding_is_refused_where_the_algorithm_does_not_declare_it():
    trainer = SimpleNamespace(strategy=fsdp(), precision="32-true")
    for name, kind in algorithms.named():
        if kind.supports_sharding:
            check_trainer(make(name), trainer)
        else:
            message = (
                f"strategy fsdp: {name} needs whole weights and gradients on each device, ERM, Fish, Fishr, GGAL do not"
            )
            with pytest.raises(UserError, match=message):
                check_trainer(make(name), trainer)


@pytest.mark.parametrize("strategy", ["deepspeed", "deepspeed_stage_3", "fsdp_cpu_offload", "xla", "DeepSpeedStrategy"])
@pytest.mark.parametrize("name", NAMES)
def test_strategies_are_refused_by_name_whether_or_not_they_are_installed(name: str, strategy: str, tmp_path: Path):
    path = f"lightning.pytorch.strategies.{strategy}"
    (tmp_path / "c.yaml").write_text(f"trainer: {{strategy: {{class_path: {path}}}}}")
    given = ["--config", str(tmp_path / "c.yaml")] if "Strategy" in strategy else ["--trainer.strategy", strategy]
    sharded = ", or fsdp to divide" if name in SHARDED else "$"
    with pytest.raises(
        UserError, match=f"trainer.strategy is {strategy}, .* {name} is not made for; choose ddp{sharded}"
    ):
        TrainingRun(["--model.algorithm", name, *given, "--output_root", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("scale", "big", "model.algorithm: scale is 'big', expected one of calibrated, sum, mean$"),
        ("active_rows", "few", "model.algorithm: active_rows is 'few', expected a whole number"),
        ("anneal_steps", "1.5", "model.algorithm: anneal_steps is '?1.5'?, expected a whole number$"),
        ("ema", ".nan", "model.algorithm: ema is ('NaN'|nan), expected a number$"),
        ("emma", "0.5", "model.algorithm: Fishr has no option 'emma', did you mean 'ema'"),
    ],
)
def test_a_wrong_value_of_an_option_is_answered(option: str, value: str, message: str, tmp_path: Path):
    (tmp_path / "c.yaml").write_text(f"model: {{algorithm: {{class_path: Fishr, init_args: {{{option}: {value}}}}}}}")
    for given in (["--config", "fishr", f"--model.algorithm.{option}", value], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(UserError, match=message):
            TrainingRun([*given, "--output_root", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("accelerator", "abacus", "invalid accelerator name: `accelerator='abacus'`"),
        ("devices", "none", "`devices` selected with `CPUAccelerator` should be an int > 0"),
        ("max_time", "soon", "'soon'.* is not a valid duration"),
    ],
)
def test_what_lightning_says_of_its_options_is_one_message(
    option: str, value: str, message: str, manifests: dict[str, str], tmp_path: Path
):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": {"train": manifests}}))
    with pytest.raises(UserError, match=f"trainer: .*{message}"):
        TrainingRun(
            ["--config", str(tmp_path / "c.yaml"), "--output_root", str(tmp_path), f"--trainer.{option}", value]
            + ["--trainer.accelerator", "cpu"] * (option != "accelerator")
        )


def test_the_cost_is_printed_before_the_first_step(tiny_model: Path, manifests: dict[str, str], tmp_path, capsys):
    module = fit(tiny_model, manifests, tmp_path, make("Fish"), steps=1)
    size = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    expected = "Fish: each training step takes 1 x ERM's forward and backward passes, 3 optimizer steps, "
    assert f"{expected}{4e-9 * size:.2g} GB" in capsys.readouterr().out

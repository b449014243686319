"""A loss or gradient that is no finite number never reaches the weights; who caused it is named and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from backbone.loss import Losses
from callbacks.checkpoints import Checkpoints
from common.errors import UserError
from lightning_modules import algorithms
from lightning_modules.step_guard import StepGuard, UnusableStepError
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import fit, make
from tests.test_reliability_resume import assert_same

NAMES = [name for name, _ in algorithms.named()]


class Poisoned(WhisperModule):
    """At some steps the last utterance's audio is multiplied, its losses are added to, or a gradient is multiplied."""

    at: tuple[int, ...] = ()
    audio, term, gradient = 1.0, 0.0, 1.0

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.global_step in self.at:
            batch.mel_BFT[-1] *= self.audio
        return batch

    def token_losses(self, batch: Any, **options: Any) -> Losses:
        out = super().token_losses(batch, **options)
        if self.global_step not in self.at:
            return out
        if self.gradient != 1.0:
            out.hidden_BUD.register_hook(lambda gradient: gradient * self.gradient)
        row = (torch.arange(len(batch)) == len(batch) - 1)[:, None]
        losses_BU = torch.where(row, out.losses_BU + self.term, out.losses_BU)
        return Losses(losses_BU, out.logits_BUV, out.hidden_BUD)


class States(L.Callback):
    """What weights, optimizer and algorithm are after each step."""

    def __init__(self) -> None:
        self.after: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: WhisperModule, *_: Any) -> None:
        state = {
            "weights": {name: weight.detach().clone() for name, weight in pl_module.model.named_parameters()},
            "algorithm": {name: value.clone() for name, value in pl_module.algorithm.state_dict().items()},
            "moments": [
                {key: torch.as_tensor(value).clone() for key, value in moments.items()}
                for moments in trainer.optimizers[0].state.values()
            ],
        }
        self.after.append(state)


def poisoned(
    model: Path,
    manifests: dict[str, str],
    folder: Path,
    name: str,
    *,
    options: dict[str, Any] | None = None,
    **how: Any,
) -> tuple[WhisperModule, list[dict[str, Any]]]:
    states = States()
    kind = type("Run", (Poisoned,), how)
    settings = {"callbacks": [states, Checkpoints()]}
    module = fit(model, manifests, folder, make(name), kind=kind, steps=4, trainer=settings, **(options or {}))
    return module, states.after


LOSS_NAN, LOSS_INF, GRADIENT_INF = {"audio": float("nan")}, {"term": float("inf")}, {"gradient": float("inf")}
QUICK = [(name, LOSS_NAN) for name in NAMES] + [("Fish", LOSS_INF), ("Fish", GRADIENT_INF), ("GGAL", GRADIENT_INF)]
OTHERS = [(name, how) for name in NAMES for how in (LOSS_INF, GRADIENT_INF) if (name, how) not in QUICK]


@pytest.mark.parametrize(
    ("name", "how"), QUICK + [pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS], ids=str
)
def test_an_unusable_step_is_as_if_it_had_never_been(
    name: str, how: dict[str, float], tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    """`term` makes the loss infinite and leaves the gradient finite; `gradient` the other way round."""
    budget = {"options": {"max_unusable_steps": 1}}
    module, after = poisoned(tiny_model, manifests, tmp_path, name, at=(2,), **how, **budget)
    assert len(after) == 4 and len(module.unusable_steps) == 1
    assert_same(after[1], after[2])
    assert any((after[3]["weights"][key] != weight).any() for key, weight in after[2]["weights"].items())
    # MLDG and SAM step along the gradient and look at the loss there.
    what = "loss" if how is not GRADIENT_INF or name in ("MLDG", "SAM") else "gradient"
    assert f"step 2: the {what} is not finite" in module.unusable_steps[0]


@pytest.mark.parametrize("name", ["Fishr", "VREx"])
def test_moments_are_forgotten_after_the_annealing_although_that_step_is_passed_over(
    name: str, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    """`make` anneals for one step: the second update, made by the third step, begins with fresh moments."""
    how = {"at": (1,), **LOSS_NAN, "options": {"max_unusable_steps": 1}}
    _, after = poisoned(tiny_model, manifests, tmp_path, name, **how)
    assert [{int(moments["step"]) for moments in state["moments"]} for state in after] == [{1}, {1}, {1}, {2}]


def test_fishr_s_average_does_not_fade_at_a_step_that_is_passed_over(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    """Nothing is learned and each step takes the whole corpus, so that all steps have the same variances."""
    averages = []
    for at in ((), (2,)):
        still = {"learning_rate": 0.0, "max_unusable_steps": 1, "utterances": 6}
        _, after = poisoned(tiny_model, manifests, tmp_path / str(at), "Fishr", at=at, **LOSS_NAN, options=still)
        averages.append([state["algorithm"]["average_PVD"] for state in after])
    whole, passed_over = averages
    torch.testing.assert_close(passed_over[3], whole[2], rtol=1e-4, atol=1e-12)


def test_without_a_budget_it_ends_the_run_and_says_who_it_was(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    message = (
        r"step 2: the loss is not finite \(de-en: nan on (de-en-\d)\); no update was made, and the batch was saved as "
        r"(.*/unusable/step-2-rank-0.pt)\. Look at .* model.max_unusable_steps"
    )
    with pytest.raises(UserError, match=message) as caught:
        poisoned(tiny_model, manifests, tmp_path, "ERM", at=(2,), audio=float("nan"))
    words = str(caught.value)
    batch = torch.load(tmp_path / "unusable" / "step-2-rank-0.pt", weights_only=True)
    assert batch["pairs"] == ["ko-en"] * 2 + ["ja-en"] * 2 + ["de-en"] * 2
    assert f"nan on {batch['ids'][-1]})" in words
    assert batch["waveforms_BS"].shape[0] == 6 and batch["waveforms_BS"].isfinite().all()


def test_the_budget_is_a_budget(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    with pytest.raises(UserError, match="step 3: the loss is not finite"):
        options = {"max_unusable_steps": 2}
        poisoned(tiny_model, manifests, tmp_path, "Fish", at=(0, 1, 3), audio=float("nan"), options=options)
    assert sorted(file.name for file in (tmp_path / "unusable").iterdir()) == [
        "step-0-rank-0.pt",
        "step-1-rank-0.pt",
        "step-3-rank-0.pt",
    ]


def test_a_gradient_that_is_not_finite_names_the_whole_batch(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    with pytest.raises(UserError, match="the gradient is not finite") as caught:
        poisoned(tiny_model, manifests, tmp_path, "ERM", at=(0,), gradient=float("inf"))
    assert all(str(caught.value).count(f"{pair}: ") == 2 for pair in ("ko-en", "ja-en", "de-en"))


def test_one_pair_alone_may_diverge():
    guard, norm = StepGuard(3, divergence_threshold=5.0), torch.tensor(1.0)
    guard.check(torch.tensor([1.0, 4.9, 1.0]), norm)
    with pytest.raises(UnusableStepError, match=r"step 3: the loss of a pair is 6, above .*divergence_threshold 5"):
        guard.check(torch.tensor([1.0, 6.0, 1.0]), norm)


def test_divergence_is_refused_where_a_bound_is_set(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    poisoned(tiny_model, manifests, tmp_path / "free", "ERM", at=(1,), term=1e3)
    with pytest.raises(
        UserError, match=r"step 1: the loss of a pair is [\d.e+]+, above model.divergence_threshold 100;"
    ):
        options = {"divergence_threshold": 100.0}
        poisoned(tiny_model, manifests, tmp_path / "bound", "ERM", at=(1,), term=1e3, options=options)

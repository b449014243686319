"""What every algorithm must do, found by looking into the folder: the next one is tested by these too."""

from __future__ import annotations

import copy
import inspect
import math
import re
from pathlib import Path

import pytest
import torch
import yaml

from common.errors import UserError
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm, Needs, ObjectiveAlgorithm
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.gradients import GradientAlgorithm
from tests.algorithm_toys import OPTIMIZERS, Quadratics, TinyDecoder, context, token_batch, weights

ROOT = Path(__file__).parents[1]
CLASSES = dict(algorithms.named())
# Brought forward, so that a few steps see all of an algorithm.
EARLY = {"anneal_steps": 1, "first_step": 1, "last_step": 2, "trials": 3}


def make(name: str, **options) -> Algorithm:
    accepted = inspect.signature(CLASSES[name]).parameters
    return CLASSES[name](**{key: value for key, value in EARLY.items() if key in accepted} | options)


def train(algorithm: Algorithm, steps: range, model=None, optimizer=None, batches=None, **options) -> TinyDecoder:
    model = model or TinyDecoder()
    optimizer = optimizer or OPTIMIZERS["adam"](model.parameters())
    for step in steps:
        batch = token_batch(seed=step) if batches is None else batches(step)
        algorithm.step(context(model, optimizer, step=step, seed=7, **options), batch)
    return model


def test_all_are_found():
    """Every class that a recipe names, and every file beside the core's that defines one."""
    recipes = [yaml.safe_load(path.read_text()) or {} for path in (ROOT / "configs").rglob("*.yaml")]
    chosen = [(recipe.get("model") or {}).get("algorithm") for recipe in recipes]
    named = {one if isinstance(one, str) else one["class_path"] for one in chosen if one}
    assert named == set(CLASSES)
    folder = Path(algorithms.__file__).parent
    files = {
        path.stem for path in folder.glob("*.py") if re.search(r"^class \w+\(\w*Algorithm\)", path.read_text(), re.M)
    }
    assert {kind.__module__.rpartition(".")[2] for kind in CLASSES.values()} == files - {"algorithm", "gradients"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if kind.strength])
def test_strength_zero_is_erm_to_the_last_bit(name: str, optimizer: str):
    runs = {}
    for algorithm in (make("ERM"), make(name, **{CLASSES[name].strength: 0.0})):
        model = TinyDecoder().float()
        runs[type(algorithm)] = weights(
            train(algorithm, range(5), model, OPTIMIZERS[optimizer](model.parameters()), clip_norm=1.0)
        )
    ours, erm = runs.values()
    assert torch.equal(ours, erm)
    if name != "GGA":  # whose three trials may all fail
        assert not torch.equal(weights(train(make(name), range(5), TinyDecoder().float(), clip_norm=1.0)), erm)


@pytest.mark.parametrize("name", CLASSES)
def test_a_rule_is_learnt(name: str):
    """Each label is the token after its input's, which width 8 can hold."""
    model = TinyDecoder(width=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    batch = token_batch()
    batch.labels_BU = torch.where(batch.labels_BU >= 0, (batch.decoder_inputs_BU + 1) % 11, batch.labels_BU)
    before = context(model, optimizer).backward(batch)
    optimizer.zero_grad()
    train(make(name), range(120), model, optimizer, batches=lambda step: batch)
    after = context(model, optimizer).backward(batch)
    assert (after < 0.2 * before).all()


@pytest.mark.parametrize("name", CLASSES)
def test_resuming_in_mid_run_changes_no_bit(name: str):
    whole, algorithm, model = train(make(name), range(6)), make(name), TinyDecoder()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(algorithm, range(3), model, optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), algorithm.state_dict()))
    resumed, again = TinyDecoder(seed=5), make(name)
    optimizer = OPTIMIZERS["adam"](resumed.parameters())
    for part, state in zip((resumed, optimizer, again), saved, strict=True):
        part.load_state_dict(state)
    train(again, range(3, 6), resumed, optimizer)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 9])
@pytest.mark.parametrize("name", CLASSES)
def test_micro_batches_change_nothing(name: str, micro_batch: int):
    whole = train(make(name), range(4), clip_norm=1.0)
    parts = train(make(name), range(4), clip_norm=1.0, micro_batch=micro_batch)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CLASSES)
def test_a_batch_ends_in_one_commit_and_no_gradient_is_left(name: str):
    model, commits = TinyDecoder(), []
    optimizer = OPTIMIZERS["adam"](model.parameters())
    for step in range(3):
        commit = lambda: (commits.append(1), optimizer.step())  # noqa: E731
        make(name).step(context(model, optimizer, step=step, last_step=commit), token_batch())
        assert len(commits) == step + 1
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", CLASSES)
def test_what_it_needs_is_what_it_does(name: str):
    """Declared passes and optimizer steps, counted on a step outside GGA's window."""
    model, steps, utterances = TinyDecoder(), [], []
    optimizer = OPTIMIZERS["adam"](model.parameters())
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    batch, algorithm = token_batch(), make(name)
    step_context = context(model, optimizer, step=3)
    step_context.forward = lambda part, **_: (utterances.append(len(part)), model(part))[1]
    algorithm.step(step_context, batch)
    needs = algorithm.needs(3)
    assert (len(steps), sum(utterances) / len(batch)) == (needs.optimizer_steps, needs.passes)
    assert f"{type(algorithm).__name__}: " in needs.describe(type(algorithm).__name__, 10**6, 10**5)


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("ERM", (0, 0)),
        ("Fish", (1, 0)),
        ("Fishr", (0, 3)),
        ("GGA", (5, 0)),
        ("GGAL", (2, 0)),
        ("GroupDRO", (0, 0)),
        ("MLDG", (2, 0)),
        ("PCGrad", (2, 0)),
        ("SAM", (1, 0)),
        ("VREx", (0, 0)),
    ],
)
def test_the_memory_of_the_published_ones(name: str, copies: tuple[int, int]):
    """Copies of the parameters and of the projection for three pairs, counted by hand."""
    needs = make(name).needs(3)
    assert (needs.parameter_copies, needs.head_copies) == copies


def test_without_a_moving_average_fishr_holds_no_copies():
    algorithm = make("Fishr", ema=0.0)
    train(algorithm, range(3))
    assert algorithm.needs(3).head_copies == algorithm.average_PVD.numel() == 0


def test_the_cost_is_told_in_words():
    """Two copies of 10^8 parameters and three of a projection of 10^7, of 4 bytes each: 0.92 GB."""
    needs = Needs(passes=2, optimizer_steps=3, parameter_copies=2, head_copies=3, note="at first")
    assert needs.describe("X", 10**8, 10**7) == (
        "X: each training step takes 2 x ERM's forward and backward passes, 3 optimizer steps, 0.92 GB beyond ERM's "
        "memory; at first"
    )
    assert Needs().describe("X", 1, 1).endswith("1 x ERM's forward and backward passes, 1 optimizer step, 0 GB beyond "
                                                "ERM's memory")  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_the_losses_it_logs_are_each_pairs_own(name: str):
    """Nothing moves at a rate of 0, so that inner steps and rehearsals see the losses of the start."""
    model, batch = TinyDecoder(), token_batch()
    losses_BU = model(batch).losses_BU.detach()
    own = {
        pair: losses_BU[rows].sum() / (batch.labels_BU[rows] >= 0).sum() for pair, rows in batch.pair_slices().items()
    }
    for step in (3, 4, 5):  # past GGA's window; Fish and MLDG take the pairs in another order each
        figures = make(name).step(context(model, torch.optim.SGD(model.parameters(), lr=0.0), step=step), batch)
        for pair, loss in own.items():
            assert float(figures[f"loss/{pair}"]) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("name", CLASSES)
def test_options_out_of_range_are_named(name: str):
    """Every number an algorithm takes has a range, and -1 lies outside it."""
    for option, parameter in inspect.signature(CLASSES[name]).parameters.items():
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            for wrong in (-1, math.nan, math.inf):
                with pytest.raises(UserError, match=f"{name}: {option} is {wrong}, expected "):
                    CLASSES[name](**{option: wrong})


def test_no_active_rows_are_refused():
    with pytest.raises(UserError, match="Fishr: active_rows is 0, expected 1 or more"):
        make("Fishr", active_rows=0)


def test_the_objective_is_called_once_a_step_also_in_micro_batches():
    calls: list[int] = []

    def objective(losses_P: torch.Tensor) -> torch.Tensor:
        calls.append(len(losses_P))
        return (losses_P**2).sum()

    context(TinyDecoder(), micro_batch=2).backward(token_batch(), objective)
    assert calls == [3]


def test_the_plain_mean_needs_no_second_pass_in_micro_batches():
    model, seen = TinyDecoder(), []
    step_context = context(model, micro_batch=4)
    step_context.forward = lambda part, **_: (seen.append(len(part)), model(part))[1]
    step_context.backward(token_batch())
    assert seen == [4, 4, 1]


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_backward_pass_returns_losses_without_graph_and_says_which_part_is_the_last(micro_batch: int | None):
    last: list[bool] = []
    step_context = context(
        TinyDecoder(),
        micro_batch=micro_batch,
        back_propagate=lambda loss, is_last: (last.append(is_last), loss.backward()),
    )
    assert not step_context.backward(token_batch()).requires_grad
    assert last == ([True] if micro_batch is None else [False, False, True])


def test_a_step_is_clipped_as_torch_clips():
    model, reference, batch = TinyDecoder(), TinyDecoder(), token_batch()
    make("ERM").step(context(model, OPTIMIZERS["sgd"](model.parameters()), clip_norm=0.1), batch)
    losses_BU = reference(batch).losses_BU
    sum(losses_BU[r][batch.labels_BU[r] >= 0].mean() / 3 for r in batch.pair_slices().values()).backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    OPTIMIZERS["sgd"](reference.parameters()).step()
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-14)


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("name", CLASSES)
def test_a_refused_step_was_shown_every_loss_and_the_norm_and_changes_nothing(name: str, micro_batch: int | None):
    """An update sees the losses of every pass before it: all three pairs' once a pass, one pair's in Fish."""
    model, seen = TinyDecoder(), []

    def refuse(losses: torch.Tensor, norm: torch.Tensor) -> None:
        seen.append((len(losses), float(norm)))
        raise ArithmeticError

    before = weights(model)
    with pytest.raises(ArithmeticError):
        make(name).step(context(model, check=refuse, micro_batch=micro_batch, step=3), token_batch())
    (count, norm), *others = seen
    assert not others and norm > 0
    needs = make(name).needs(3)
    assert count == 3 * needs.passes / needs.optimizer_steps
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize(("ranks", "labelled"), [(1, 0), (1, 1), (2, 1)])
def test_a_pair_of_few_tokens(ranks: int, labelled: int):
    """Without any its loss is 0; one token's is that token's own, also where the other of two ranks has none."""
    model, batch = TinyDecoder(), token_batch({"ko-en": 2, "ja-en": 1})
    batch.labels_BU[2] = -100
    batch.labels_BU[2, 2 : 2 + labelled] = 7
    all_reduce = lambda tensor: tensor  # noqa: E731  # the other rank adds nothing
    step_context = context(model, world_size=ranks, all_reduce=all_reduce)
    expected = model(batch).losses_BU[2, 2] if labelled else torch.tensor(0.0).double()
    torch.testing.assert_close(step_context.backward(batch)[1], expected.detach(), rtol=1e-14, atol=0)
    alone = TinyDecoder()
    context(alone).backward(batch)
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.isfinite(theirs.grad).all()
        torch.testing.assert_close(ours.grad, ranks * theirs.grad)  # ranks' gradients are averaged


def test_the_ends_of_a_range_belong_to_it():
    assert (make("Fishr", ema=0.9999).ema, make("Fishr", ema=0.0).ema) == (0.9999, 0.0)
    with pytest.raises(UserError, match="Fishr: ema is 1, expected 0 to 0.9999"):
        make("Fishr", ema=1.0)


def test_generators_are_named_by_seed_and_step():
    def draw(seed: int, step: int) -> list[float]:
        model = TinyDecoder()
        return torch.rand(4, generator=context(model, seed=seed, step=step).generator()).tolist()

    assert draw(0, 1) == draw(0, 1)
    assert len({tuple(draw(seed, step)) for seed in range(3) for step in range(3)}) == 9


@pytest.mark.parametrize("limit", [0.01, 100.0, None])
def test_clipping_keeps_both_norms(limit: float | None):
    model = TinyDecoder()
    step_context = context(model, clip_norm=limit)
    step_context.backward(token_batch())
    before = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    step_context.clip()
    after = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close((step_context.grad_norm, step_context.clipped_norm), (before, after))
    assert 0.0099 < after < 0.01 if limit == 0.01 else after == before


@pytest.mark.parametrize("name", CLASSES)
def test_every_algorithm_has_a_recipe_and_a_page(name: str):
    page_name = CLASSES[name].__module__.split(".")[-1].replace("_", "-")
    recipe = yaml.safe_load((ROOT / "configs" / "recipe" / f"{page_name}.yaml").read_text())
    chosen = recipe["model"]["algorithm"]
    chosen = {"class_path": chosen} if isinstance(chosen, str) else chosen
    assert (recipe["name"], chosen["class_path"]) == (page_name, name)
    CLASSES[name](**chosen.get("init_args", {}))
    page = (ROOT / "docs" / "algorithms" / f"{page_name}.md").read_text()
    for option, parameter in inspect.signature(CLASSES[name]).parameters.items():
        if option in ("args", "kwargs"):  # torch.nn.Module's, of a class without options
            continue
        assert f"`{option}`" in page
        given = chosen.get("init_args", {}).get(option, parameter.default)
        assert given == parameter.default, f"configs/recipe/{page_name}.yaml: {option}"
    assert f"({page_name}.md)" in (ROOT / "docs" / "algorithms" / "index.md").read_text()


def test_the_examples_of_the_page_run():
    """Gradients at 0 are minus the centres: the worst loss is ja-en's; of length 1 they are (-1, 0) and (0, -1)."""
    page = (ROOT / "docs" / "algorithms" / "index.md").read_text()
    names = {"ObjectiveAlgorithm": ObjectiveAlgorithm, "GradientAlgorithm": GradientAlgorithm}
    names |= {"StepContext": StepContext, "Tensor": torch.Tensor}
    for block in re.findall(r"```python\n(class .*?)```", page, re.DOTALL):
        exec(block, names)
    for example, expected in {"Worst": [0.0, 2.0], "ByNorm": [0.5, 0.5]}.items():
        model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 2.0]})
        names[example]().step(context(model), model.batch())
        assert model.theta.tolist() == pytest.approx(expected, abs=1e-15)

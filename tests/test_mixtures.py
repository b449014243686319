"""What reaches training: mixtures of corpora, the same batches whatever workers, ranks and resuming, broken audio."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import WhisperProcessor

from common.errors import UserError
from common.manifest import read_manifest, write_manifest
from datamodules.batch import SpeechBatch
from datamodules.pairs import PairDataModule
from datamodules.sampler import PairBatchSampler
from datamodules.skips import SkipBudget, SkippedUtterance
from tests.conftest import write_corpus
from training.training_run import TrainingRun

# The sampler


def draws(corpora: dict[str, Sequence[tuple[int, float]]], k: int | dict[str, int] = 3, steps: int = 8, **options: Any):
    per_pair = dict.fromkeys(corpora, k) if isinstance(k, int) else k
    return list(PairBatchSampler(corpora, per_pair, steps, **({"seed": 1} | options)))


def walk(size: int, *corpora: tuple[int, float]) -> list[int]:
    """The first `size` utterances of a pair."""
    return [draw.index for batch in draws({"p": corpora}, 1, size) for draw in batch]


TWO_PAIRS = {"ko-en": [(12, 1.0)], "ja-en": [(6, 1.0)]}


@pytest.mark.parametrize("world_size", [1, 2])
def test_each_utterance_comes_once_a_cycle(world_size: int):
    """12 and 6 utterances, 4 and 2 a step over all ranks: three steps a cycle."""
    k = {"ko-en": 4 // world_size, "ja-en": 2 // world_size}
    ranks = [draws(TWO_PAIRS, k, 6, rank=rank, world_size=world_size) for rank in range(world_size)]
    for rank in ranks:
        for batch in rank:
            assert [draw.pair for draw in batch] == ["ko-en"] * k["ko-en"] + ["ja-en"] * k["ja-en"]
    for first_step in (0, 3):
        for pair, size in (("ko-en", 12), ("ja-en", 6)):
            cycle = [
                d for rank in ranks for batch in rank[first_step : first_step + 3] for d in batch if d.pair == pair
            ]
            assert sorted(draw.index for draw in cycle) == list(range(size))
    hearings = [draw.seed for rank in ranks for batch in rank for draw in batch]
    assert len(set(hearings)) == len(hearings) == 36


def test_two_ranks_make_the_walk_of_one():
    one = draws(TWO_PAIRS, 6)
    ranks = [draws(TWO_PAIRS, 3, rank=rank, world_size=2) for rank in (0, 1)]
    for step, whole in enumerate(one):
        for pair in TWO_PAIRS:
            assert [d for rank in ranks for d in rank[step] if d.pair == pair] == [d for d in whole if d.pair == pair]


def test_order_follows_from_seed_and_step_alone():
    weighted = {"p": [(5, 0.7), (4, 2.0)], "q": [(3, 1.0)]}
    assert draws(weighted, start=5) == draws(weighted)[5:]
    assert draws(weighted) == draws(weighted)
    assert draws(weighted, seed=2) != draws(weighted)


def test_a_weight_is_how_often_an_utterance_comes_in_a_cycle():
    order = walk(28, (4, 2.0), (6, 1.0))
    expected = dict.fromkeys(range(4), 2) | dict.fromkeys(range(4, 10), 1)
    assert Counter(order[:14]) == expected == Counter(order[14:])
    assert order[:14] != order[14:] and set(order[:7]) & set(range(4)) and set(order[:7]) & set(range(4, 10))


def test_fractions_of_a_corpus_are_spread_over_cycles():
    """Of 5 utterances at 0.5, cycles take 2 and 3 in turn, and two cycles all."""
    order = walk(22, (5, 0.5), (6, 1.0))
    cycles = [order[:8], order[8:17]]
    assert [sum(index < 5 for index in cycle) for cycle in cycles] == [2, 3]
    assert Counter(order[:17]) == dict.fromkeys(range(5), 1) | dict.fromkeys(range(5, 11), 2)
    late = draws({"p": [(10, 0.3), (1, 1.0)]}, 4, 1_000_020, start=1_000_000)  # four draws a cycle, exactly
    assert [sum(draw.index < 10 for draw in batch) for batch in late] == [3] * 20
    assert Counter(d.index for batch in late[:10] for d in batch) == dict.fromkeys(range(10), 3) | {10: 10}


def test_corpora_of_equal_weight_are_pooled():
    assert walk(50, (4, 1.0), (6, 1.0)) == walk(50, (10, 1.0))


# The loader


class Recorder(L.LightningModule):
    """Trains one number and keeps what its training steps were given."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.tokenizer = WhisperProcessor.from_pretrained(model).tokenizer
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[Any] = []

    def setup(self, stage: str) -> None:
        self.trainer.datamodule.read(self.tokenizer, window_s=2.0, max_tokens=128)

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> torch.Tensor:
        self.steps.append(content(batch))
        return self.weight * batch.waveforms_BS.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def content(batch: SpeechBatch) -> list[tuple[Any, ...]]:
    """All of a batch, row by row, in types that compare."""
    waveforms = [row[:n].tolist() for row, n in zip(batch.waveforms_BS, batch.lengths_B, strict=True)]
    rows = (batch.pairs, batch.ids, batch.seeds, waveforms, batch.labels_BU.tolist(), batch.skipped)
    return list(zip(*rows, strict=True))


def fit(
    data: PairDataModule, model: Path, folder: Path, steps: int = 7, save_at: int = 3, resume: Path | None = None
) -> Recorder:
    recorder = Recorder(model)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, filename="saved", every_n_train_steps=save_at, save_top_k=-1)],
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=resume)
    return recorder


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, str]:
    """Three manifests of six utterances: a and b of ko-en, c of de-en."""
    parts = {"a": "ko-en", "b": "ko-en", "c": "de-en"}
    manifests = {}
    for seed, (name, pair) in enumerate(parts.items()):
        path = write_corpus(tmp_path / name, pair, seed)
        write_manifest(path, [replace(u, id=f"{name}{i}") for i, u in enumerate(read_manifest(path))])
        manifests[name] = str(path)
    return manifests


def spoil(corpora: dict[str, str], *names: str) -> None:
    """Cuts audio files short, so that their headers still promise all of it."""
    for name in names:
        audio = Path(corpora[name[0]]).with_name(f"{name[1]}.wav")
        audio.write_bytes(audio.read_bytes()[:1000])


def data(corpora: dict[str, str], **options: Any) -> PairDataModule:
    """Two ko-en corpora, one of them heard twice as often, and a de-en one."""
    train = {"ko-en": [{"manifest": corpora["a"], "weight": 2}, corpora["b"]], "de-en": corpora["c"]}
    return PairDataModule(train, **({"utterances_per_pair": {"ko-en": 3, "de-en": 2}, "workers": 0} | options))


def test_training_steps_see_each_utterance_once_a_cycle(corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    steps = fit(data(corpora), tiny_model, tmp_path, steps=6).steps
    assert all([row[0] for row in step] == ["ko-en"] * 3 + ["de-en"] * 2 for step in steps)
    heard = Counter(row[1] for step in steps for row in step)
    assert heard == {f"{name}{i}": times for name, times in (("a", 2), ("b", 1), ("c", 2)) for i in range(6)}


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_mid_epoch_continues_the_order(workers: int, corpora: dict[str, str], tiny_model: Path, tmp_path):
    """With speeds, timestamps, and broken audio before the checkpoint; against a run without workers or a pause."""
    spoil(corpora, "a1", "b5", "c2")
    options = {"speed": [0.9, 1.0, 1.1], "timestamps": 0.5, "max_broken": 3}
    whole = data(corpora, **options)
    expected = fit(whole, tiny_model, tmp_path / "whole").steps
    first = data(corpora, workers=workers, **options)
    steps = fit(first, tiny_model, tmp_path / "half", steps=3).steps
    second = data(corpora, workers=workers, **options)
    steps += fit(second, tiny_model, tmp_path / "half", resume=tmp_path / "half" / "saved.ckpt").steps
    assert len(steps) == 7 and steps == expected
    assert first.skips.skipped and list(second.skips.skipped) == list(whole.skips.skipped)


def test_two_ranks_share_the_batches_of_one(corpora: dict[str, str], tiny_model: Path):
    spoil(corpora, "a1")
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer

    def loaded(k: int, rank: int, world_size: int) -> list[Any]:
        module = data(corpora, utterances_per_pair=k, speed=[0.9, 1.1], timestamps=0.5, max_broken=1)
        module.read(tokenizer, window_s=2.0, max_tokens=128)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        module.trainer = SimpleNamespace(
            max_steps=3, global_step=0, global_rank=rank, world_size=world_size, strategy=device
        )
        return [content(batch) for batch in module.train_dataloader()]

    ranks = [loaded(2, rank, 2) for rank in (0, 1)]
    for step, whole in enumerate(loaded(4, 0, 1)):
        for pair in ("ko-en", "de-en"):
            shared = [row for rank in ranks for row in rank[step] if row[0] == pair]
            # Labels are padded to the longest of a batch, so they are compared without the padding.
            assert [_without_padding(row) for row in shared] == [_without_padding(r) for r in whole if r[0] == pair]


def _without_padding(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:4], [label for label in row[4] if label != -100], row[5])


# Broken audio


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_audio_is_replaced_counted_and_listed(workers: int, corpora: dict[str, str], tiny_model: Path, tmp_path):
    """In c's place 1, then 2, is 3; in b's last the first of the pair, a0."""
    sound = fit(data(corpora), tiny_model, tmp_path / "sound", steps=6).steps
    spoil(corpora, "c1", "c2", "b5")
    module = data(corpora, workers=workers, max_broken=3)
    steps = fit(module, tiny_model, tmp_path, steps=6).steps
    stands_for = {"c1": "c3", "c2": "c3", "b5": "a0"}
    expected = [[stands_for.get(row[1], row[1]) for row in step] for step in sound]
    assert [[row[1] for row in step] for step in steps] == expected
    skipped = {skip.id: skip for skip in module.skips.skipped}
    assert {name: (skip.pair, skip.index) for name, skip in skipped.items()} == {
        "b5": ("ko-en", 11),
        "c1": ("de-en", 1),
        "c2": ("de-en", 2),
    }
    assert skipped["c2"].reason == f"{tmp_path}/c/2.wav: 0.03 s of audio, 1.00 s by the manifest; the file is cut short"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("broken", "allowed", "message"),
    [
        (
            ["c4"],
            0,
            r"^1 training utterance cannot be read, data\.max_broken allows none:\n  de-en c4: .*/c/4\.wav: .*",
        ),
        (
            ["a0", "c1", "c2"],
            2,
            r"^3 training utterances cannot be read, data\.max_broken allows 2:\n  (.*\n  ){2}.*\n",
        ),
        ([f"c{i}" for i in range(6)], 9, r"^6 training utterances cannot be read, not one of de-en can:\n"),
    ],
)
def test_too_much_broken_audio_ends_in_one_message(
    broken: list[str], allowed: int, message: str, workers: int, corpora: dict[str, str], tiny_model: Path, tmp_path
):
    spoil(corpora, *broken)
    with pytest.raises(UserError, match=message + r"[\s\S]*python prepare\.py check") as error:
        fit(data(corpora, workers=workers, max_broken=allowed), tiny_model, tmp_path, steps=12)
    assert "Traceback" not in str(error.value)


def _gather(rank: int, found: list[SkippedUtterance], folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    budget = SkipBudget(2, {"p": 9})
    budget.add(found)
    (folder / f"{rank}.json").write_text(json.dumps([budget.gathered().state_dict(), budget.state_dict()]))
    torch.distributed.destroy_process_group()


def test_ranks_join_their_accounts(tmp_path: Path):
    first, second, both = (SkippedUtterance("p", index, f"u{index}", "cut short") for index in range(3))
    ranks = [
        multiprocessing.get_context("fork").Process(target=_gather, args=(rank, found, tmp_path))
        for rank, found in enumerate([[first, both], [both, second]])
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    for rank in (0, 1):
        whole, of_each = json.loads((tmp_path / f"{rank}.json").read_text())
        joined, own, alone = (SkipBudget(2) for _ in range(3))
        joined.load_state_dict(whole)
        assert list(joined.skipped) == [first, both, second]
        assert joined.summary().startswith("3 training utterances could not be read and others took their place: p u0")
        own.load_state_dict(of_each, rank, 2)  # a checkpoint is written by the first rank alone
        assert list(own.skipped) == ([first, both], [both, second])[rank]
        alone.load_state_dict(of_each, 0, 1)
        assert list(alone.skipped) == [first, both, second]


# Leaks


def held_out_by(path: Path, **changes: Any) -> str:
    """A test manifest of one utterance, that of the corpus but for the changes."""
    utterance = replace(read_manifest(path)[2], **({"text": "etwas anderes"} | changes))
    write_manifest(path.parent / "held.jsonl", [utterance])
    return str(path.parent / "held.jsonl")


def test_held_out_speech_is_refused(corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    path = Path(corpora["c"])
    copy = tmp_path / "copy.wav"
    shutil.copy(path.with_name("2.wav"), copy)
    module = data(corpora, held_out=[held_out_by(path, audio=copy)])
    expected = r"c/train\.jsonl: 1 of 6 training utterances are held out for testing: c2 in .*held\.jsonl \(c2\); drop"
    with pytest.raises(UserError, match=expected):
        module.read(tokenizer, 2.0, 128)

    write_manifest(path, [replace(u, source_sentence_id=f"fleurs:{i}") for i, u in enumerate(read_manifest(path))])
    module = data(corpora, held_out=[held_out_by(path, id="x", source_sentence_id="fleurs:4")])
    with pytest.raises(UserError, match=r": c4 in .*held\.jsonl \(x\); drop"):
        module.read(tokenizer, 2.0, 128)


def test_a_transcript_held_out_is_told_and_what_only_looks_alike_is_not(
    corpora: dict[str, str], tiny_model: Path, capsys: pytest.CaptureFixture
):
    """c's third and sixth sentence are one, `Für die Übergröße, please.`"""
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    path = Path(corpora["c"])
    other = path.with_name("3.wav")  # the same id with other audio is no leak
    module = data(corpora, held_out=[held_out_by(path, audio=other, text="für die Übergrösse please")])
    module.read(tokenizer, 2.0, 128)
    held = path.with_name("held.jsonl")
    assert module.leaks == [f"c2 in {held} (c2)", f"c5 in {held} (c2)"]
    printed = capsys.readouterr().err.splitlines()
    assert printed == [
        "warning: 2 training transcripts are also in held-out manifests (all in run.json): " + "; ".join(module.leaks)
    ]
    module = data(corpora, held_out=[held_out_by(path, audio=other)])
    module.read(tokenizer, 2.0, 128)
    assert module.leaks == [] and capsys.readouterr().err == ""


# The command line


def recipe(corpora: dict[str, str], tiny_model: Path, tmp_path: Path, **settings: Any) -> list[str]:
    config = {
        "output_root": str(tmp_path / "outputs"),
        "model": {"backbone": str(tiny_model)},
        "data": {
            "train": {"ko-en": [{"manifest": corpora["a"], "weight": 2}, corpora["b"]], "de-en": corpora["c"]},
            "pairs": ["ko-en", "de-en"],
            "utterances_per_pair": {"ko-en": 3, "de-en": 2},
            "workers": 0,
        },
        "trainer": {"max_steps": 3, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    }
    for section, values in settings.items():
        config[section] |= values
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    return ["--config", "erm.yaml", "--config", str(tmp_path / "tiny.yaml")]


def test_a_run_with_all_of_it_is_recorded_and_runs_again(
    corpora: dict[str, str], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    spoil(corpora, "c0", "c1", "c2", "c3")
    settings = {"max_broken": 4, "speed": [0.9, 1.1], "held_out": [held_out_by(Path(corpora["a"]), id="x")]}
    arguments = recipe(corpora, tiny_model, tmp_path, data=settings, model={"spec_augment": {"time_share": 0.5}})
    TrainingRun(arguments).fit()
    folder = tmp_path / "outputs" / "erm"
    record = json.loads((folder / "run.json").read_text())
    assert sorted(skip["id"] for skip in record["skipped"]) == ["c0", "c1", "c2", "c3"]
    assert all(f"c/{skip['id'][1]}.wav: " in skip["reason"] for skip in record["skipped"])
    assert record["transcripts_also_held_out"] == []
    assert record["corpora"]["ko-en"]["manifests"] == {corpora["a"]: 2, corpora["b"]: 1}
    assert record["corpora"]["de-en"]["utterances_a_step"] == 2
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: 4 training utterances could not be read and others took their place: de-en")
    assert warnings[0].endswith(" ... (all in run.json)")
    again = TrainingRun(
        ["--config", str(folder / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]
    )
    assert again.model.spec_augment.time_share == 0.5 and again.model.spec_augment.time_masks == 2
    again.fit()
    weights = [path / "model" / "model.safetensors" for path in (folder, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("data", {"train": {"ko-en": {"manifset": "x"}, "de-en": "y"}}, r"data\.train\.ko-en: expected .*'manifset'"),
        ("data", {"train": {"ko-en": {"manifest": "x", "wieght": 2}, "de-en": "y"}}, "'wieght', did you mean 'weight'"),
        ("data", {"train": {"ko-en": {"manifest": "x", "weight": 0}, "de-en": "y"}}, "weight of x is 0, expected"),
        ("data", {"train": {"ko-en": ["x", "x"], "de-en": "y"}}, "names x twice; .* give it a weight"),
        ("data", {"train": {"ko-en": [], "de-en": "y"}}, r"data\.train\.ko-en names no manifest"),
        ("data", {"utterances_per_pair": {"ko-en": 3}}, r"lacks de-en"),
        ("data", {"utterances_per_pair": {"ko-en": 3, "de-en": 0}}, r"utterances_per_pair of de-en is 0"),
        ("data", {"max_broken": -1}, r"data\.max_broken is -1"),
        ("data", {"held_out": ["none.jsonl"]}, r"none\.jsonl: no such manifest"),
        ("data", {"speed": [9, 1.0]}, r"data\.speed holds the factor 9.*expected speeds between 0\.5 and 2"),
        ("model", {"spec_augment": {"time_share": 2}}, r"model\.spec_augment\.time_share is 2"),
        ("data", {"timestamps": 1.5}, r"data\.timestamps is 1\.5, expected a share from 0 to 1"),
        ("data", {"speed": 0.9}, r"data\.speed is '0\.9', expected a list of a number"),
        (
            "model",
            {"spec_augment": {"time_masks": "x"}},
            "time_masks is 'x', expected a whole number",
        ),
        (
            "model",
            {"spec_augment": {"time_maks": 2}},
            r"spec_augment: SpecAugment has no option 'time_maks', .*'time_masks'",
        ),
    ],
)
def test_mistakes_are_answered(
    section: str, settings: dict[str, Any], message: str, corpora: dict[str, str], tiny_model: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        TrainingRun(recipe(corpora, tiny_model, tmp_path, **{section: settings})).fit()

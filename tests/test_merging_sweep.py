"""A sweep scores what a merge would make, chooses the lowest mean, and never on unseen or test sets by accident."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, WhisperForConditionalGeneration

from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from common.errors import UserError
from common.manifest import read_manifest, write_manifest
from evaluation.evaluate_models import Candidate, Evaluation, evaluate
from evaluation.score_weights import score_state_dict
from merge import score as scored_in_memory
from merging import merge_engine as engine
from merging.command import main
from merging.sweep import values
from tests.merging_models import whispers  # noqa: F401

PAIRS = ("ko_en", "ja_en", "de_en")


def _manifest(path: Path, pair: str, split: str = "dev") -> Path:
    path.write_text(json.dumps({"id": "1", "pair": pair, "split": split}) + "\n", encoding="utf-8")
    return path


class Scorer:
    """Error rates that are lowest where the weights are nearest to some target weights."""

    def __init__(self, target: dict[str, torch.Tensor]):
        self.target = target
        self.points: list[dict[str, torch.Tensor]] = []

    def __call__(self, folder: Path, weights: dict[str, torch.Tensor], manifests: list[Path]) -> dict[str, float]:
        AutoProcessor.from_pretrained(folder)
        model = WhisperForConditionalGeneration(WhisperForConditionalGeneration.config_class.from_pretrained(folder))
        missing = model.load_state_dict(dict(weights), strict=False)
        assert missing.missing_keys == ["proj_out.weight"] and not missing.unexpected_keys
        self.points.append({name: tensor.clone() for name, tensor in weights.items()})
        distance = sum(float((weights[name] - self.target[name]).square().sum()) for name in weights)
        pairs = [json.loads(path.read_text())["pair"] for path in manifests]
        return {pair: distance + place for place, pair in enumerate(pairs)}


def _command(root: Path, out: Path, *options: object) -> list[str]:
    models = [str(root / pair / "model") for pair in PAIRS]
    return [*map(str, ("sweep", "ties", "--base", root / "base", "--models", *models, "--out", out, *options))]


def _merged(root: Path, out: Path, *options: str) -> dict[str, torch.Tensor]:
    models = [str(root / pair / "model") for pair in PAIRS]
    main(["ties", "--base", str(root / "base"), "--models", *models, "--out", str(out), *options])
    return load_file(out / "model.safetensors")


def test_the_points_are_merges_and_the_best_is_written(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    score = Scorer(_merged(whispers, tmp_path / "target", "--lambda", "0.6", "--density", "0.5"))
    merges = []
    for name in ("merge", "write_steps"):
        work = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *args, work=work: merges.append(work) or work(*args))
    manifests = [_manifest(tmp_path / "a.jsonl", "ko-en"), _manifest(tmp_path / "b.jsonl", "de-en")]
    grid = ["--lambda", "0.2:1.0:0.4", "--density", "0.2,0.5"]
    main(_command(whispers, tmp_path / "sweep", *grid, "--score", *manifests), score=score)

    assert len(merges) == 3, "task vectors are trimmed once a density, and for the model that is written"
    points = [(density, step) for density in (0.2, 0.5) for step in (0.2, 0.6, 1.0)]
    for place, (density, step) in enumerate(points):
        options = ["--lambda", str(step), "--density", str(density)]
        expected = _merged(whispers, tmp_path / f"point{place}", *options)
        assert all(torch.equal(score.points[place][name], expected[name]) for name in expected)

    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert [(float(row["density"]), float(row["lambda"])) for row in rows] == points
    assert rows[4]["ko-en"] == "0.000000" and rows[4]["de-en"] == "1.000000" and rows[4]["mean"] == "0.500000"
    assert (tmp_path / "sweep" / "sweep.svg").read_text().count("<svg") == 1
    best = load_file(tmp_path / "sweep" / "best" / "model.safetensors")
    assert all(torch.equal(best[name], score.target[name]) for name in best)
    card = (tmp_path / "sweep" / "best" / "README.md").read_text()
    assert "# ties-ko\\_en+ja\\_en+de\\_en\n" in card
    assert "density 0.5, lambda 0.6 chosen of 6 points" in card and "unseen" not in card
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["best", "sweep.csv", "sweep.svg"]


@pytest.mark.parametrize(
    ("pair", "split", "message"),
    [
        ("ko-ja", "dev", "--score holds ko-ja: choosing on unseen pairs"),
        ("ko-en", "test", "holds test utterances"),
    ],
)
def test_unseen_pairs_and_test_sets_are_refused(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    pair: str,
    split: str,
    message: str,
):
    manifest = _manifest(tmp_path / "a.jsonl", pair, split)
    with pytest.raises(UserError, match=message):
        main(_command(whispers, tmp_path / "sweep", "--score", manifest), score=Scorer({}))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambda", "0.5", "--density", "0.2,2"], r"density is 2.0, expected a number in \(0, 1\]"),
        (["--lambda=0.5,-1"], r"lambda is -1.0, expected a number of 0 or more"),
        (["--base", "{root}/ko_en/model"], "ko_en/model: is the base itself"),
    ],
)
def test_a_mistake_is_found_before_the_first_point(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    options: list[str],
    message: str,
):
    score = Scorer({})
    manifest = _manifest(tmp_path / "a.jsonl", "ko-en")
    command = _command(whispers, tmp_path / "sweep", "--score", manifest, *(o.format(root=whispers) for o in options))
    with pytest.raises(UserError, match=message):
        main(command, score=score)
    assert not score.points and not (tmp_path / "sweep").exists()


def test_choosing_on_unseen_pairs_is_stamped_into_the_card(whispers: Path, tmp_path: Path):  # noqa: F811
    score = Scorer(load_file(whispers / "base" / "model.safetensors"))
    manifests = [_manifest(tmp_path / "a.jsonl", "ko-ja"), _manifest(tmp_path / "b.jsonl", "ko")]
    command = _command(whispers, tmp_path / "sweep", "--lambda", "0.5", "--allow-unseen", "--score", *manifests)
    main(command, score=score)
    assert "Chosen on unseen pairs (ko-ja)" in (tmp_path / "sweep" / "best" / "README.md").read_text()


def test_an_error_in_scoring_leaves_nothing(whispers: Path, tmp_path: Path):  # noqa: F811
    def score(*_: object) -> dict[str, float]:
        raise UserError("no audio")

    manifest = _manifest(tmp_path / "a.jsonl", "ko-en")
    with pytest.raises(UserError, match="no audio"):
        main(_command(whispers, tmp_path / "sweep", "--score", manifest), score=score)
    assert not list((tmp_path / "sweep").iterdir())


def test_ranges_and_lists_are_read():
    assert values("0.2:1.2:0.1", "lambda") == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]
    assert values("0.2,0.5,1", "density") == [0.2, 0.5, 1.0]
    for wrong in ("0.2:1.2", "a", "1:2:0", "", "1:0:0.5", "inf"):
        with pytest.raises(UserError, match="--lambda .*: expected FIRST:LAST:STEP"):
            values(wrong, "lambda")


@pytest.fixture(scope="module")
def talkers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two fine-tunes whose random weights write letters and words, other ones for each utterance."""
    root = tmp_path_factory.mktemp("talkers")
    for seed, (name, scale) in enumerate([("base", 0.4), ("ko_en/model", 0.1), ("de_en/model", 0.1)]):
        model, processor = read_model_folder(tiny_model if name == "base" else root / "base")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.ndim == 2:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
        end = model.generation_config.eos_token_id
        model.generation_config.suppress_tokens = [i for i in range(300, model.config.vocab_size) if i != end]
        write_model_folder(root / name, model, processor)
    return root


def test_points_score_as_the_merges_would_in_an_evaluation(
    talkers: Path, manifests: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The figures of a sweep in memory against those of merged folders, read and scored from disk."""
    pairs = ("ko-en", "de-en", "ko")
    together = [utterance for pair in pairs[1:] for utterance in read_manifest(manifests[pair])]
    write_manifest(tmp_path / "dev.jsonl", together)  # one manifest of two pairs, one of one
    models = ["--base", str(talkers / "base"), "--models", *(str(talkers / pair / "model") for pair in PAIRS[::2])]
    scored = ["--score", manifests["ko-en"], str(tmp_path / "dev.jsonl")]
    main(["sweep", "ties", *models, "--lambda", "0.4,1", "--out", str(tmp_path / "sweep"), *scored], scored_in_memory)
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))

    for row in rows:
        merged = tmp_path / f"merged-{row['lambda']}"
        main(["ties", *models, "--lambda", row["lambda"], "--out", str(merged)])
        sets = {pair: manifests[pair] for pair in pairs}
        table = evaluate(Evaluation([Candidate("merged", str(merged))], sets, tmp_path / "out"))
        assert {pair: f"{rate:.6f}" for pair, rate in table.rows[0].scores.items()} == {p: row[p] for p in pairs}
    figures = [row[pair] for row in rows for pair in pairs]
    assert len(set(figures)) > 3 and "1.000000" not in figures  # texts, and others at the other step length


def test_weights_are_copied_and_the_projection_stays_tied(talkers: Path, manifests: dict[str, str], tmp_path: Path):
    folder = tmp_path / "folder"  # without weights, as a sweep leaves it
    shutil.copytree(talkers / "base", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    manifest = [Path(manifests["ko-en"])]
    weights = [load_file(talkers / name / "model.safetensors") for name in ("base", "ko_en/model")]
    first, second = (score_state_dict(folder, one, manifest)["ko-en"] for one in weights)
    written_over = {name: tensor.clone() for name, tensor in weights[1].items()}
    score_state_dict(folder, written_over, manifest)
    for tensor in written_over.values():
        tensor.zero_()
    assert [score_state_dict(folder, one, manifest)["ko-en"] for one in weights] == [first, second]
    assert first != second
    embedding = "model.decoder.embed_tokens.weight"
    with pytest.raises(UserError, match=r"not those of its config\.json: \d+ differ, such as model\.decoder"):
        score_state_dict(folder, {embedding: weights[0][embedding]}, manifest)
    (folder / "generation_config.json").unlink()
    score_state_dict(folder, weights[0], manifest)  # the folder was read once
    shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(UserError, match=r"no generation_config\.json"):
        score_state_dict(tmp_path / "other", weights[0], manifest)

"""Model cards and pushing: what a fine-tune's card says, scores in it, and that nothing leaves without being asked."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from backbone.lora import LoRA
from backbone.model_folder.candidates import candidates
from backbone.model_folder.hub import HUB, add_scores, push
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.training_card import Recipe, training_card
from callbacks.final_model import FinalModel
from common.errors import UserError
from common.manifest import read_manifest, write_manifest
from common.markdown import licence_of, split, table
from common.options import run as run_command
from evaluation.evaluate_models import Evaluation, evaluate
from lightning_modules.algorithms.fishr import Fishr
from merging.command import main as merge
from tests.algorithm_runs import fit


def recipe(*licences: str) -> Recipe:
    corpora = {"ko-en": {"utterances": 1234, "sources": ["AI Hub"], "licences": licences}}
    return Recipe("mine", "openai/whisper-medium", "Fishr", corpora, {"steps": 195})


def test_a_card_says_what_was_heard_and_under_which_licence():
    card = ModelCard(training_card(recipe("CC-BY-4.0")))  # the Hub's own reader
    assert card.data.base_model == "openai/whisper-medium" and card.data.language == ["ko", "en"]
    assert card.data.to_dict()["base_model_relation"] == "finetune"
    assert card.data.license is None  # the base's card is not here, and nothing is made up
    assert "| ko-en | 1,234 | AI Hub | CC-BY-4.0 |" in card.text and "steps: 195" in card.text
    assert "commercial" not in card.text


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "research use, non-commercial"])
def test_a_non_commercial_corpus_makes_the_card_say_so(licence: str):
    card = ModelCard(training_card(recipe("CC-BY-4.0", licence)))
    assert (card.data.license, card.data.license_name) == ("other", "non-commercial")
    assert f"**Not for commercial use: it was trained on speech under {licence}.**" in card.text


def test_a_licence_that_is_not_known_is_said_to_be():
    assert "licence of some training speech is not stated" in training_card(recipe())
    assert "non-commercial" not in training_card(recipe("CC-BY-4.0 (nc stands for nothing)".replace("nc", "once")))


@pytest.fixture(scope="module")
def run(tiny_model: Path, manifests: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as training leaves it, and scores of an evaluation beside it."""
    root = tmp_path_factory.mktemp("run")
    fit(tiny_model, manifests, root, Fishr(), trainer={"callbacks": [FinalModel(name="my-run")]})
    short = read_manifest(manifests["ko-en"])[:3]
    write_manifest(root / "test.jsonl", [dataclasses.replace(u, id=f"t{i}") for i, u in enumerate(short)])
    models = candidates([f"mine={root / 'model'}", f"base={tiny_model}"])
    evaluate(Evaluation(models, {"ko-en": str(root / "test.jsonl")}, root / "scores", seen=["ko-en"]))
    return root


def test_training_leaves_a_card_and_an_evaluation_its_scores(run: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    before = (folder / "README.md").read_text()
    assert (
        "# my-run" in before and "penalty_weight: 0.03" in before and "| ko-en | 6 | not stated | CC0-1.0 |" in before
    )
    run_command(HUB, ["card", str(folder), "--scores", str(run / "scores/scores.json")])
    after = (folder / "README.md").read_text()
    found = json.loads((run / "scores/scores.json").read_text())["models"]["mine"]["sets"]["ko-en"]
    rate = found["figures"]["mer"]
    expected = f"| ko-en | seen | {100 * rate['value']:.1f} | {100 * rate['low']:.1f} to {100 * rate['high']:.1f} | 3 |"
    assert expected in after
    (result,) = ModelCard(after).data.eval_results
    assert (result.dataset_name, result.metric_value) == ("ko-en", round(100 * found["micro"], 2))
    assert split(after)[1].replace("\n", "").startswith(split(before)[1].replace("\n", ""))
    add_scores(folder, run / "scores/scores.json")
    assert (folder / "README.md").read_text() == after  # in place of the older ones
    assert read_model_folder(folder)


def test_scores_of_another_model_are_refused(run: Path, tmp_path: Path):
    shutil.copytree(run / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"dropout": 0.1}))
    with pytest.raises(UserError, match=r"scores mine, base, none of which is now in .*model"):
        add_scores(tmp_path / "model", run / "scores/scores.json")
    with pytest.raises(UserError, match=r"not the scores\.json of an evaluation"):
        add_scores(tmp_path / "model", tmp_path / "model/config.json")


def test_a_merge_of_it_takes_scores_into_its_card_too(run: Path, tiny_model: Path, tmp_path: Path):
    given = ["--models", str(run / "model"), "--base", str(tiny_model), "--out", str(tmp_path / "merged")]
    merge(["wise_ft", *given])
    name = f"merged={tmp_path / 'merged'}"
    evaluate(Evaluation(candidates([name]), {"ko-en": str(run / "test.jsonl")}, tmp_path / "scores"))
    add_scores(tmp_path / "merged", tmp_path / "scores/scores.json")
    card = (tmp_path / "merged/README.md").read_text()
    assert "## Lineage" in card and "## Scores" in card and len(ModelCard(card).data.eval_results) == 1


class Api:
    """Stands for the Hub; remembers what it was asked."""

    asked: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo: str, **options: Any) -> None:
        self.asked.append((repo, options))

    def upload_folder(self, **options: Any) -> str:
        self.asked.append(("upload", options))
        return "https://huggingface.co/me/mine/commit/1"


def test_nothing_is_pushed_unless_asked(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    Api.asked.clear()
    run_command(HUB, ["push", str(run / "model"), "me/mine"])
    shown = capsys.readouterr().out
    assert Api.asked == [] and "nothing was uploaded; add --upload" in shown
    assert all(name in shown for name in ("model.safetensors", "preprocessor_config.json", "README.md"))
    assert "the card has no scores yet" in shown
    run_command(HUB, ["push", str(run / "model"), "me/mine", "--upload", "--private"])
    (created, how), (_, uploaded) = Api.asked
    assert created == "me/mine" and how == {"private": True, "exist_ok": True}
    assert uploaded["folder_path"] == str(run / "model") and "*.ckpt" not in uploaded["allow_patterns"]


def test_what_is_not_complete_is_not_pushed(run: Path, tmp_path: Path):
    shutil.copytree(run / "model", tmp_path / "model")
    with pytest.raises(UserError, match="'mine' names no repository on the Hub, expected OWNER/NAME"):
        push(tmp_path / "model", "mine")
    (tmp_path / "model/preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"lacks preprocessor_config\.json"):
        push(tmp_path / "model", "me/mine")


def test_a_card_without_a_head_is_told(run: Path, tmp_path: Path):
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "model/README.md").write_text("# Mine\n")
    with pytest.raises(UserError, match="the model card has no head"):
        push(tmp_path / "model", "me/mine")


def test_whatever_a_head_holds_the_licence_is_read_or_none(tmp_path: Path):
    card = tmp_path / "README.md"
    assert licence_of(tmp_path) is None
    for text, licence in (
        (b"---\nlicense: mit\n---\n# Mine\n", "mit"),
        (b"---\r\nlicense: mit\r\n---", "mit"),
        (b"---\nauthor: M\xfcller\nlicense: mit\n---\n", "mit"),
        (b"---\nlicense:\n---\n", None),
        (b"---\n- mit\n---\n", None),
        (b"---\nlicense: [mit\n---\n", None),
        (b"# Mine\n---\nlicense: mit\n---\n", None),
    ):
        card.write_bytes(text)
        assert licence_of(tmp_path) == licence, text


def test_a_head_of_aliases_to_aliases_is_none(tmp_path: Path):
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]" for i in range(1, 9))]
    text = "\n".join(["---", *lines, "license: mit", "---", ""])
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path) is None
    with pytest.raises(UserError, match="the model card has no head"):
        split(text)


def test_tables_in_markdown():
    rows = [("a", "1", "2"), ("b", "3", "4")]
    assert table(("x", "y", "z"), rows) == "| x | y | z |\n|---|---|---|\n| a | 1 | 2 |\n| b | 3 | 4 |"
    assert table(("x", "y", "z"), iter([]), 1) == "| x | y | z |\n|---|---:|---:|"


def test_the_heads_of_cards_are_plain_yaml(run: Path):
    head = re.match(r"---\n(.*?)\n---", (run / "model/README.md").read_text(), re.DOTALL)[1]
    assert yaml.safe_load(head)["pipeline_tag"] == "automatic-speech-recognition"


@pytest.mark.parametrize("adapters", [False, True], ids=["weights", "adapters"])
def test_the_conversion_hears_what_the_folder_does(
    run: Path, tiny_model: Path, manifests: dict[str, str], tmp_path: Path, adapters: bool
):
    pytest.importorskip("faster_whisper")
    from decoding.faster_whisper import FasterWhisper, convert
    from decoding.torch_whisper import TorchWhisper
    from decoding.transcriber import Transcriber

    model = run / "model"
    if adapters:
        pytest.importorskip("peft")
        fit(tiny_model, manifests, tmp_path, Fishr(), lora=LoRA(rank=2), trainer={"callbacks": [FinalModel()]})
        model = tmp_path / "model"
    folder = convert(model, "identity", tmp_path)
    utterances = read_manifest(run / "test.jsonl")
    theirs = Transcriber(FasterWhisper(folder, model)).transcribe(utterances)
    assert theirs == Transcriber(TorchWhisper(*read_model_folder(model))).transcribe(utterances)

"""Scoring models from the command line: what is left, work kept and never done twice, mistakes answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jiwer
import pytest
import yaml

import evaluation.hypotheses as hypotheses
from backbone.devices import on_devices
from backbone.window import Window
from common.configs import read_yaml
from common.errors import UserError
from common.manifest import Span, Utterance, read_manifest, write_manifest
from common.options import parse
from decoding.transcriber import Hypothesis, Transcriber
from evaluate import EVALUATE
from evaluation.evaluate_models import Candidate, Evaluation, candidates, evaluate
from evaluation.evaluation_options import Decoding, EvaluationOptions, evaluation_settings
from scoring.compare import compare_runs

ROOT = Path(__file__).parent.parent


class Parrot(Transcriber):
    """Says what was said, but of every other utterance (0, 2, ...) nothing: the rates can be told beforehand."""

    heard: Counter[str] = Counter()

    def transcribe_batch(self, utterances):
        Parrot.heard.update(utterance.id for utterance in utterances)
        return [Hypothesis(utterance.text if int(utterance.id[-1]) % 2 else "") for utterance in utterances]


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> type[Parrot]:
    monkeypatch.setattr(hypotheses, "Transcriber", Parrot)
    monkeypatch.setattr(hypotheses, "_engine", lambda *_: Engine)
    Parrot.heard = Counter()
    return Parrot


class Engine:
    window = Window(3000)

    class tokenizer:
        """Knows every language."""

        convert_tokens_to_ids = staticmethod(str)
        convert_ids_to_tokens = staticmethod(str)


@pytest.fixture
def job(tiny_model: Path, manifests: dict[str, str], tmp_path: Path) -> Evaluation:
    sets = {pair: manifests[pair] for pair in ("ko-en", "de-en", "ja-en", "ko")}
    # Another group and folder, but other weights: a configuration that differs makes another model.
    other = shutil.copytree(tiny_model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"note": "another"}))
    models = [Candidate("base", str(tiny_model), "Base"), Candidate("other", str(other), "Fine-tuned")]
    return Evaluation(models, sets, tmp_path / "out", seen=["ko-en", "de-en"], unseen=["ja-en"])


def rows(job: Evaluation) -> list[dict]:
    return [json.loads(line) for line in (job.out / "hypotheses.jsonl").read_text().split("\n") if line]


def test_table_json_has_the_promised_form(job: Evaluation, parrot: type[Parrot]):
    evaluate(job)
    table = json.loads((job.out / "table.json").read_text())
    assert table["profile"] == "cjk" and [row["model"] for row in table["rows"]] == ["base", "other"]
    row = table["rows"][0]
    assert set(row) == {"model", "group", "scores", "tolerant", "seen", "unseen", "significant"}
    assert set(row["scores"]) == set(job.test)
    # de-en by hand: "Ich habe den report geschickt." 5, "Das meeting war schön." 4, "Für die Übergröße, please." 4
    # tokens, twice each in this order; the parrot is silent on the first, third and fifth: 5 + 4 + 4 of 26 are lost.
    assert row["scores"]["de-en"] == pytest.approx(13 / 26)
    assert row["seen"] == pytest.approx((row["scores"]["ko-en"] + row["scores"]["de-en"]) / 2)
    assert row["unseen"] == row["scores"]["ja-en"]
    left = {path.name for path in job.out.iterdir()}
    assert left == {"decoded", "hypotheses.jsonl", "scores.json", "report.html"} | {
        f"table.{ending}" for ending in ("md", "csv", "json", "tex")
    }


def test_every_figure_is_left_with_what_it_was_made_from(job: Evaluation, parrot: type[Parrot]):
    evaluate(replace(job, baseline="base"))
    scores = json.loads((job.out / "scores.json").read_text())
    assert scores["decoding"] == {
        "language": "matrix", "beams": 1, "backend": "transformers", "precision": "float32",
        "guards": {"tokens_per_second": 40, "repeats": 4, "temperatures": [0], "no_speech": 1},
    }  # fmt: skip
    assert {"python", "torch", "transformers", "rapidfuzz"} <= scores["versions"].keys()
    assert scores["test"]["ko"]["utterances"] == 6
    other = scores["models"]["other"]
    figures = other["sets"]["de-en"]
    assert figures["micro"] == pytest.approx(13 / 26) and figures["utterances"] == 6
    assert figures["figures"]["mer"]["low"] < 0.5 < figures["figures"]["mer"]["high"]
    assert figures["figures"]["failure.empty"]["value"] == 0.5
    assert figures["figures"]["languages_by.unknown"]["value"] == 1  # German and English without spans: it is said
    assert scores["models"]["base"]["sets"]["ko-en"]["figures"]["languages_by.script"]["value"] == 1
    assert all(figures["made_from"][name].startswith("sha256:") for name in ("model", "manifest"))
    assert figures["made_with"]["torch"] == scores["versions"]["torch"]
    assert set(other["averages"]) == {"seen", "unseen"} and other["averages"]["seen"]["low"] is not None
    assert other["minus_baseline"]["seen"] == {"value": 0, "low": 0, "high": 0, "significant": False}
    assert other["tolerant_minus_baseline"]["seen"]["value"] == 0
    assert set(other["tolerant_averages"]) == {"seen", "unseen"}
    first = rows(job)[0]
    utterance = read_manifest(job.test["ko-en"])[0]
    assert (first["model"], first["set"], first["profile"]) == ("base", "ko-en", "cjk")
    assert (first["id"], first["reference"], first["hypothesis"]) == (utterance.id, utterance.text, "")
    assert first["deletions"] == len(first["reference_tokens"]) == len(first["operations"])
    page = (job.out / "report.html").read_text()
    assert "data:audio/wav;base64," in page and "Übergröße" in page and "http-equiv" in page


def test_finished_work_is_kept_until_what_it_was_made_from_changes(job: Evaluation, parrot: type[Parrot]):
    everything = Counter({f"{pair}-{index}": 2 for pair in job.test for index in range(6)})
    evaluate(job)
    assert parrot.heard == everything
    evaluate(job)
    evaluate(replace(job, profile="cer", models=[replace(job.models[0], name="renamed"), job.models[1]]))
    assert parrot.heard == everything
    assert {row["profile"] for row in rows(job)} == {"cer"}
    evaluate(replace(job, decoding=Decoding(language="two_tag")))
    evaluate(job)  # the first transcripts are still there
    assert parrot.heard == everything + everything
    manifest = Path(job.test["ko"])
    text = manifest.read_text()
    try:
        manifest.write_text(text.replace("ko-5", "ko-7"))
        evaluate(job)
        assert parrot.heard == everything + everything + Counter(
            {f"ko-{index}": 2 for index in range(8) if index not in (5, 6)}
        )
    finally:
        manifest.write_text(text)


def test_a_model_is_another_where_a_configuration_changes_at_the_same_size(tiny_model: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    before = Candidate("m", str(folder)).identity
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"dropout": 0.0', '"dropout": 0.1'))
    assert config.read_text() != text and Candidate("m", str(folder)).identity != before
    config.write_text(text)
    assert Candidate("m", str(folder)).identity == before


def test_a_model_may_have_language_tags_of_its_own(job: Evaluation, parrot: type[Parrot], monkeypatch):
    policies: list[tuple[str, str]] = []
    batches = Parrot.transcribe_batch

    def noted(self, utterances):
        policies.extend((self.language, utterance.id) for utterance in utterances)
        return batches(self, utterances)

    monkeypatch.setattr(Parrot, "transcribe_batch", noted)
    evaluate(job)
    policies.clear()
    tagged = Candidate("tagged", job.models[0].path, "Fine-tuned", "two_tag")  # the base's weights once more
    evaluate(replace(job, models=[*job.models, tagged]))
    assert sorted(policies) == sorted(("two_tag", f"{pair}-{index}") for pair in job.test for index in range(6))
    models = json.loads((job.out / "scores.json").read_text())["models"]
    assert models["tagged"]["language"] == "two_tag" and "language" not in models["base"]
    assert models["tagged"]["sets"]["ko"]["made_from"]["language"] == "two_tag"
    assert models["base"]["sets"]["ko"]["made_from"]["language"] == "matrix"
    assert "profile cjk; tag two\\_tag for tagged; best" in (job.out / "table.md").read_text()
    assert "matrix; tag two_tag for tagged" in (job.out / "report.html").read_text()


def test_what_guards_cut_is_counted_and_their_options_keep_transcripts_apart(
    job: Evaluation, parrot: type[Parrot], monkeypatch
):
    """Of each set the first and the last utterance are cut, whatever is decoded again."""
    whole = Parrot.transcribe_batch
    cuts = {"0": "length", "5": "repetition"}

    def looping(self, utterances):
        said = zip(whole(self, utterances), utterances, strict=True)
        return [replace(one, cut=cuts.get(u.id[-1]), temperature=0.2 * (u.id[-1] == "3")) for one, u in said]

    monkeypatch.setattr(Parrot, "transcribe_batch", looping)
    for _ in range(2):  # the second time, from what is stored
        table = evaluate(job)
        scores = json.loads((job.out / "scores.json").read_text())
        assert scores["models"]["other"]["sets"]["ko-en"]["cut"] == {
            "length": 1, "repetition": 1, "no speech": 0, "sampled": 1,
        }  # fmt: skip
        parts = [f"{what}: base 4, other 4" for what in ("cut as too long", "cut as repetitive", "sampled")]
        said = f"; hypotheses {'; '.join(parts)}"
        assert table.by_guard == said and said in (job.out / "table.md").read_text()
        page = (job.out / "report.html").read_text()
        assert "at most 40 tokens a second; 4 repeats end a hypothesis; hypotheses cut" in page
        assert set(parrot.heard.values()) == {2}
    evaluate(replace(job, decoding=Decoding(tokens_per_second=0, repeats=0)))
    assert set(parrot.heard.values()) == {4}
    evaluate(replace(job, decoding=Decoding(tokens_per_second=0, repeats=0, precision="bfloat16")))
    assert set(parrot.heard.values()) == {6} and "greedy, bfloat16" in (job.out / "report.html").read_text()
    assert "no bound on tokens; repeats end none" in (job.out / "report.html").read_text()
    monkeypatch.setattr(Parrot, "transcribe_batch", whole)
    evaluate(replace(job, decoding=Decoding(repeats=3)))
    assert "hypotheses cut" not in (job.out / "table.md").read_text() + (job.out / "report.html").read_text()


def test_an_interrupted_evaluation_goes_on_with_the_next_batch(job: Evaluation, parrot: type[Parrot], monkeypatch):
    job = replace(job, models=job.models[:1], decoding=Decoding(batch_size=4))

    def interrupted(self, utterances, whole=Parrot.transcribe_batch):
        if sum(Parrot.heard.values()) >= 12:
            raise KeyboardInterrupt
        return whole(self, utterances)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parrot, "transcribe_batch", interrupted)
        evaluate(job)
    assert sum(parrot.heard.values()) == 12 and not (job.out / "scores.json").exists()
    # The last line is torn in the middle of a character, as by a power cut.
    last = max((job.out / "decoded").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    lost = json.loads(last.read_text().split("\n")[-1])["id"]
    last.write_bytes(last.read_bytes().rsplit(b"\n", 1)[0] + '\n{"id": "가'.encode()[:-1])
    # And another process had begun the same set.
    shutil.copy(last, last.with_name(last.name.replace(".0.jsonl", ".1.jsonl")))
    evaluate(job)
    assert parrot.heard == Counter({f"{pair}-{index}": 1 for pair in job.test for index in range(6)}) + Counter([lost])
    assert [row["id"] for row in rows(job)] == [u.id for path in job.test.values() for u in read_manifest(path)]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_divide_the_utterances(
    job: Evaluation, parrot: type[Parrot], monkeypatch, world: int, batch_size: int
):
    def one_after_another(work, device, devices, *arguments):
        for rank in range(devices):
            before = Counter(parrot.heard)
            work(device, rank, devices, *arguments)
            assert sum((parrot.heard - before).values()) <= 48 / devices + batch_size  # none has all the small batches

    monkeypatch.setattr(hypotheses, "on_devices", one_after_another)
    evaluate(replace(job, decoding=Decoding(devices=world, batch_size=batch_size)))
    assert parrot.heard == Counter({f"{pair}-{index}": 2 for pair in job.test for index in range(6)})
    assert [row["id"] for row in rows(job)] == [u.id for path in job.test.values() for u in read_manifest(path)] * 2


def test_evaluations_that_share_a_folder_of_transcripts_decode_once(
    job: Evaluation, parrot: type[Parrot], tmp_path: Path
):
    shared = replace(job, decoded=tmp_path / "shared")
    evaluate(shared)
    once = parrot.heard.total()
    evaluate(replace(shared, out=tmp_path / "again", profile="wer"))
    assert parrot.heard.total() == once > 0
    assert (tmp_path / "again/scores.json").exists()
    assert not (job.out / "decoded").exists() and any((tmp_path / "shared").iterdir())


def test_a_fault_keeps_what_was_decoded(job: Evaluation, parrot: type[Parrot], monkeypatch: pytest.MonkeyPatch):
    def engine(model, *_):
        if model.name == "other":
            raise UserError("other: broken")
        return Engine

    with monkeypatch.context() as patch, pytest.raises(UserError, match="other: broken"):
        patch.setattr(hypotheses, "_engine", engine)
        evaluate(job)
    assert not (job.out / "table.json").exists()
    evaluate(job)
    assert set(parrot.heard.values()) == {2}  # once by each model


def test_a_device_without_memory_is_told(job: Evaluation, parrot: type[Parrot], monkeypatch: pytest.MonkeyPatch):
    def full(self, utterances):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Parrot, "transcribe_batch", full)
    with pytest.raises(UserError, match="model base: .* not enough memory for 6 utterances .* smaller --batch-size"):
        evaluate(job)


@pytest.mark.parametrize("other", [{"beams": 2}, {"backend": "faster-whisper"}])
def test_compiling_is_of_the_greedy_step(job: Evaluation, parrot: type[Parrot], other: dict):
    with pytest.raises(UserError, match="compile is for greedy decoding"):
        evaluate(replace(job, decoding=Decoding(compile=True, **other)))


def test_the_hike_profile_scores_as_hike_does(tmp_path: Path, tiny_model: Path, parrot: type[Parrot], monkeypatch):
    """With the corpus's normalised references and loanwords; the oracle is HiKE's own chain, written with jiwer."""
    said = ["이번 버그는 e-mail로 보냈어.", "John's meeting — 3.5% 올랐어.", "이 모델은 데이터가 좋아."]
    labels = {
        f"h{n}": {"text_normalized": text, "loanwords": words, "cs_level": "word"}
        for n, (text, words) in enumerate(
            [
                ("이번 버그는 email로 보냈어", [["버그", "bug"], ["이메일", "email"]]),
                ("john is meeting 35 올랐어", []),
                ("이 모델은 데이터가 좋아", [["모델", "model"], ["데이터", "data"]]),
            ]
        )
    }
    heard = ["이번 bug는 이메일로, 보냈어?", "john's meeting 35 올라써", "이 모델은 data가 [noise] 좋아요!"]
    audio = tmp_path / "a.wav"
    shutil.copy(Path(__file__), audio)  # never read: the parrot hears for it
    utterances = [Utterance(f"h{n}", audio, 1.0, text, "ko-en", "ko") for n, text in enumerate(said)]
    write_manifest(tmp_path / "test.jsonl", utterances)
    monkeypatch.setattr(Parrot, "transcribe_batch", lambda _, us: [Hypothesis(heard[int(u.id[1])]) for u in us])
    monkeypatch.setattr("evaluation.evaluate_models.load_clip", lambda _: b"")
    job = Evaluation(
        [Candidate("m", str(tiny_model))], {"ko-en": str(tmp_path / "test.jsonl")}, tmp_path / "out", profile="hike"
    )

    def spaced(text: str) -> str:
        return " ".join("".join(f" {c} " if "\uac00" <= c <= "\ud7a3" else c for c in text).split())

    normalise = jiwer.Compose(
        [
            jiwer.ToLowerCase(),
            jiwer.ExpandCommonEnglishContractions(),
            jiwer.RemoveKaldiNonWords(),
            jiwer.SubstituteWords({"—": " "}),
            jiwer.RemovePunctuation(),
            jiwer.RemoveWhiteSpace(replace_by_space=True),
            jiwer.RemoveMultipleSpaces(),
            jiwer.Strip(),
        ]
    )
    rates = []
    for label, text in zip(labels.values(), heard, strict=True):
        reference = label["text_normalized"]
        for native, borrowed in label["loanwords"]:
            reference, text = reference.replace(native, borrowed), text.replace(native, borrowed)
        rates.append(jiwer.process_words(spaced(reference), spaced(normalise(text))).wer)

    def macro() -> float:
        evaluate(job)
        return json.loads((job.out / "scores.json").read_text())["models"]["m"]["sets"]["ko-en"]["macro"]

    without = macro()
    (tmp_path / "test.labels.json").write_text(json.dumps(labels))
    assert macro() == pytest.approx(sum(rates) / 3)
    assert without != macro()
    page = (job.out / "report.html").read_text()
    assert "normalised references and loanwords of ko-en" in page
    # The other profiles take the manifest's text and no loanwords, labels or not; the rows of the one serve the other.
    assert rows(job)[0]["reference"] == said[0] and rows(job)[0]["loanwords"] == [["버그", "bug"], ["이메일", "email"]]
    plain = evaluate(replace(job, profile="cjk")).rows[0].scores
    (tmp_path / "test.labels.json").unlink()
    assert evaluate(replace(job, profile="cjk")).rows[0].scores == plain
    (tmp_path / "test.labels.json").write_text("[")
    with pytest.raises(UserError, match=r"test\.labels\.json: not JSON"):
        evaluate(job)


def test_spans_tell_the_languages_where_the_script_cannot(tmp_path: Path, tiny_model: Path, parrot, monkeypatch):
    audio = tmp_path / "a.wav"
    shutil.copy(Path(__file__), audio)
    monkeypatch.setattr("evaluation.evaluate_models.load_clip", lambda _: b"")
    spans = (Span("de", text="Das"), Span("en", text="meeting"), Span("de", text="war schön."))
    write_manifest(tmp_path / "t.jsonl", [Utterance("u0", audio, 1, "Das meeting war schön.", "de-en", "de", 0, spans)])
    evaluate(Evaluation([Candidate("m", str(tiny_model))], {"de-en": str(tmp_path / "t.jsonl")}, tmp_path / "out"))
    figures = json.loads((tmp_path / "out/scores.json").read_text())["models"]["m"]["sets"]["de-en"]["figures"]
    assert figures["languages_by.spans"]["value"] == 1
    assert (figures["pier"]["numerator"], figures["pier"]["denominator"]) == (1, 1)


def test_two_runs_are_compared(
    job: Evaluation, parrot: type[Parrot], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    evaluate(job)
    again = replace(job, out=tmp_path / "again", models=job.models[:1], profile="wer")
    evaluate(again)
    capsys.readouterr()
    compare_runs(f"{job.out}/base", f"{job.out}/other")
    out = capsys.readouterr().out
    assert "base minus other" in out and "unseen average" in out and "profile cjk" in out
    compare_runs(str(job.out), str(again.out), profile="cer")  # base is what both have
    assert "out/base minus again/base" in capsys.readouterr().out
    for sides, message in (
        ((f"{job.out}/base", f"{tmp_path}/none"), "none: no evaluation; expected a folder that evaluate.py wrote"),
        ((f"{job.out}/bse", str(again.out)), "holds no model 'bse', did you mean 'base'"),
        ((str(job.out), str(job.out)), "both sides are .*: name two of its models"),
        ((str(job.out), str(again.out)), "was scored with the profile cjk, .* with wer; name one with --profile"),
    ):
        with pytest.raises(UserError, match=message):
            compare_runs(*sides)


def test_names_of_models():
    found = candidates(["outputs/erm/model", "mine=some/where", {"path": "openai/whisper-tiny", "group": "Base"}])
    assert [(c.name, c.path, c.group) for c in found] == [
        ("erm", "outputs/erm/model", "models"),
        ("mine", "some/where", "models"),
        ("whisper-tiny", "openai/whisper-tiny", "Base"),
    ]
    with pytest.raises(UserError, match="two models are called 'erm'"):
        candidates(["a/erm/model", "b/erm/model"])
    with pytest.raises(UserError, match="must be a path, NAME=PATH"):
        candidates([3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "bse"}, "the baseline 'bse' is none of the models: base, other"),
        ({"seen": ["ko-de"]}, "seen names 'ko-de', which is no test set, did you mean 'ko-en'"),
        ({"profile": "cjl"}, "no scoring profile is called 'cjl', did you mean 'cjk'"),
        ({"decoding": Decoding(language="xx")}, "model base: language 'xx' has no tag"),
        ({"decoding": Decoding(backend="whisper")}, "no backend is called 'whisper'"),
        (
            {"decoding": Decoding(precision="float16", device="cpu")},
            "--precision float16 is for GPUs; on the device cpu",
        ),
        ({"decoding": Decoding(backend="faster-whisper", temperatures=[0, 0.5])}, "are of the backend transformers"),
        ({"decoding": Decoding(backend="faster-whisper", language="likeliest")}, "--language likeliest are of"),
        ({"decoding": Decoding(device="gpu")}, "no device is called 'gpu'"),
        ({"decoding": Decoding(device="cuda:99")}, r"--device cuda:99: PyTorch finds \d+ GPUs"),
        ({"decoding": Decoding(device="cuda:0", devices=2)}, "expected one named GPU, or so many"),
    ],
)
def test_mistakes_of_the_job_are_answered(job: Evaluation, changes: dict, message: str):
    with pytest.raises(UserError, match=message):
        evaluate(replace(job, **changes))
    assert not (job.out / "decoded").exists()


@pytest.mark.parametrize("name", ["hypotheses.jsonl", "report.html", "table.csv"])
def test_a_file_of_no_evaluation_is_not_written_over(job: Evaluation, name: str):
    job.out.mkdir(parents=True)
    (job.out / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds a {name} of no evaluation"):
        evaluate(job)
    assert {path.name: path.read_text() for path in job.out.iterdir()} == {name: "mine"}


@pytest.mark.parametrize("name", ["a/b", "../x", "\0", "x" * 300, "한" * 100, ".", "\x1b[31m"])
def test_any_name_of_a_test_set_makes_a_file_of_its_folder(name: str, tmp_path: Path):
    stored = hypotheses.StoredHypotheses(tmp_path / "decoded", name, {})
    stored.append(0, [("u", Hypothesis("said"))], {})
    assert stored.read()["u"].text == "said"
    assert [path.parent for path in tmp_path.rglob("*.jsonl")] == [tmp_path / "decoded"]


def test_mistakes_in_the_test_sets_and_models_are_answered_before_any_decoding(job: Evaluation, tmp_path: Path):
    audio = tmp_path / "a.wav"
    audio.touch()
    (tmp_path / "empty.jsonl").touch()
    write_manifest(tmp_path / "dots.jsonl", [Utterance("u", audio, 1, "...", "ko-en", "ko")])
    for name, message in (
        ("empty", "empty.jsonl: the manifest holds no utterance"),
        ("dots", "u: the reference '...' holds no token"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(replace(job, test=job.test | {"ko-en": str(tmp_path / f"{name}.jsonl")}))
    bare = Path(job.models[1].path)
    (bare / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"other: the model folder has no generation_config\.json, .* copy it from"):
        evaluate(replace(job, models=[job.models[0], Candidate("other", str(bare))]))
    for path, message in (
        (tmp_path, r"not a model folder \(no config\.json\)"),
        ("nowhere", "nowhere: no such model folder; expected what train.py leaves as <run>/model, or a Hub id"),
        ("no/where", "no/where: no such folder, and the Hugging Face Hub does not provide it"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(replace(job, models=[job.models[0], Candidate("nothing", str(path))]))
    assert not job.out.exists()


def test_a_transcript_that_is_lost_is_not_an_empty_one(job: Evaluation, parrot: type[Parrot], monkeypatch):
    """As where two evaluations write into one folder, or somebody tidies it up meanwhile."""
    append = hypotheses.StoredHypotheses.append
    monkeypatch.setattr(
        hypotheses.StoredHypotheses, "append", lambda *args: append(*args[:2], list(args[2])[:-1], args[3])
    )
    with pytest.raises(UserError, match=r"decoded: 1 hypotheses of ko-en have disappeared .* Run again"):
        evaluate(job)
    assert not (job.out / "scores.json").exists()


def test_a_model_of_the_hub_is_known_by_its_files(
    job: Evaluation, parrot: type[Parrot], monkeypatch: pytest.MonkeyPatch
):
    evaluate(replace(job, models=job.models[:1]))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: job.models[0].path)
    heard = Counter(parrot.heard)
    evaluate(replace(job, models=[Candidate("hub", "openai/whisper-tiny")]))
    assert parrot.heard == heard  # the same files: nothing is transcribed again
    left = json.loads((job.out / "scores.json").read_text())["models"]["hub"]
    assert left["path"] == "openai/whisper-tiny" and left["identity"].startswith("sha256:")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "evaluate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_the_script_from_end_to_end(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    config = {"test": {"ko": manifests["ko"]}, "out": str(tmp_path / "out")}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(config))
    found = run(f"tiny={tiny_model}", "--config", str(tmp_path / "e.yaml"), "--profile", "cer")
    assert found.returncode == 0, found.stderr
    assert "profile cer" in found.stdout.replace("\n", " ") and "tiny" in found.stdout
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"][0]["scores"]["ko"] > 0.5


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("test", ["a.jsonl"], r"\['a.jsonl'\], expected a mapping of text to text"),
        ("test", {"ko": None}, r"\{'ko': None\}, expected a mapping"),
        ("seen", "ko-en", "'ko-en', expected a list"),
        ("models", "outputs/erm/model", "'outputs/erm/model', expected a list of text"),
        ("language", False, "False, expected text"),  # `no`, Norwegian, as YAML reads it
        ("beams", True, "True, expected a whole number"),
        ("batch_size", 0, "0, expected a whole number of 1 or more"),
        ("out", 3, "3, expected text"),
        ("compile", "yes", "'yes', expected true or false"),
    ],
)
def test_options_are_of_their_kind(option: str, value: object, expected: str, tmp_path: Path):
    (tmp_path / "a.jsonl").touch()
    whole = {"models": ["m"], "test": {"ko": str(tmp_path / "a.jsonl")}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(whole | {option: value}))
    with pytest.raises(UserError, match=f"e.yaml: {option} is {expected}"):
        parse(EVALUATE, ["--config", str(tmp_path / "e.yaml")])


@pytest.mark.parametrize("path", sorted((ROOT / "configs/evaluate").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_name_known_options_of_their_kind(path: Path):
    found = read_yaml(path)
    languages_alone = path.stem.endswith("_languages")
    assert "test" in found and ({"seen", "unseen"} <= set(found)) != languages_alone
    assert {*found.get("seen", []), *found.get("unseen", [])} <= set(found["test"])
    assert parse(EVALUATE, ["--config", path.name]).options.test == found["test"]


def test_the_command_line_overrules_the_configuration(tmp_path: Path):
    (tmp_path / "a.jsonl").touch()
    whole = {"models": ["m"], "baseline": "m", "test": {"ko": str(tmp_path / "a.jsonl")}, "beams": 3}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(whole))

    def settings(*words: str) -> EvaluationOptions:
        return evaluation_settings(parse(EVALUATE, ["--config", str(tmp_path / "e.yaml"), *words]))

    assert settings("--beams", "5") == EvaluationOptions(**whole | {"beams": 5, "out": "outputs/evaluation"})
    found = settings("n", "--out", "o")
    assert (found.models, found.out, found.baseline) == (["n"], "o", None)
    assert settings("n", "m=o").baseline == "m"


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_hypotheses_do_not_depend_on_the_number_of_processes(job: Evaluation, devices: int, tmp_path: Path):
    """Real processes, a real model that says something else for each utterance."""
    how = Decoding(batch_size=2, tokens_per_second=0, repeats=0)  # this model writes loops alone
    evaluate(replace(job, decoding=how))
    alone = [(row["id"], row["hypothesis"]) for row in rows(job)]
    several = replace(job, out=tmp_path / "several", decoding=replace(how, devices=devices))
    evaluate(several)
    assert [(row["id"], row["hypothesis"]) for row in rows(several)] == alone
    assert len({text for _, text in alone}) > 1
    files = list((several.out / "decoded").iterdir())
    heard = [json.loads(line).get("id") for file in files for line in file.read_text().split("\n")[1:]]
    assert Counter(heard) == Counter(name for name, _ in alone)  # by nobody twice
    assert {file.suffixes[-2] for file in files} == {f".{rank}" for rank in range(devices)}


def fails_on_rank_1(device: str, rank: int, world: int) -> None:
    assert world == 2 and device == "cpu"
    if rank == 1:
        raise UserError("what went wrong")


@pytest.mark.slow
def test_a_mistake_in_one_process_is_told_as_one():
    with pytest.raises(UserError, match="^what went wrong$"):
        on_devices(fails_on_rank_1, "cpu", 2)


def waits(device: str, rank: int, world: int, folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    code = "from tests.test_evaluation import waits; from backbone.devices import on_devices"
    parent = subprocess.Popen([sys.executable, "-c", f"{code}; on_devices(waits, 'cpu', 2, {str(tmp_path)!r})"])
    while len(workers := [int(file.name) for file in tmp_path.iterdir()]) < 2:
        assert parent.poll() is None
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "the workers go on"
        time.sleep(0.1)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    status = Path(f"/proc/{process}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model named"),
        (["m"], "no test set named"),
        (["--compare", "a", "b", "--out", "o"], "takes --profile alone, not out"),
        (["m", "--config", "dmeo"], "did you mean 'demo.yaml'?"),
        (["m", "--config", "{tmp}/bad.yaml"], "no option 'tset', did you mean 'test'?"),
        (["m", "--config", "{tmp}/gone.yaml"], "these test manifests are missing: nowhere.jsonl"),
    ],
)
def test_mistakes_are_answered_in_a_line(arguments: list[str], message: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("tset: {}\n")
    (tmp_path / "gone.yaml").write_text("test: {ko: nowhere.jsonl}\n")
    found = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert found.returncode == 2 and message in found.stderr and "Traceback" not in found.stderr

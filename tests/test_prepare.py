"""From a corpus to manifests: statistics, the draw, the leak guards, the check, the recording sheet, the commands."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import WhisperProcessor

import prepare as script
from common.errors import UserError
from common.manifest import Span, Utterance, read_manifest, write_manifest
from common.options import run as run_command
from common.trust import trust
from corpora.check import check
from corpora.corpus import prepare
from corpora.ko_de import prepare_recorded, write_sheet
from corpora.manifest_counts import ManifestCounts, counted, describe, lasting, surprises
from corpora.readers import discover
from corpora.readers.clips import ClipStore, Header
from corpora.readers.folder import Folder
from corpora.readers.reader import Clip
from corpora.readers.source import SourceFiles
from datamodules.dataset import LabelMaker
from scoring.contributions import UtteranceToScore
from scoring.results import score_set
from tests.corpus_trees import TREES, hike_row, noise, put, wav
from tests.test_readers_broken import parquet


def utterance(text: str, pair: str = "ko-en", spans: tuple[Span, ...] | None = None, **fields) -> Utterance:
    known = {"id": "u", "audio": Path("u.wav"), "duration": 2.0, "matrix_language": pair.split("-")[0]}
    return Utterance(**(known | {"text": text, "pair": pair, "spans": spans} | fields))


def run(*arguments: object) -> int:
    return run_command(script.PREPARE, list(map(str, arguments)))


# ManifestCounts


def counts(*utterances: Utterance) -> dict:
    found = ManifestCounts()
    for item in utterances:
        found.add(item)
    return found.as_dict()


def test_languages_by_script_by_span_or_unknown():
    assert counts(utterance("이 bug 3 漢"))["tokens_by_language"] == {"ko": 1, "en": 1, "other": 2}
    assert counts(utterance("데이터를 checkした", "ja-en"))["tokens_by_language"] == {"other": 4, "ja": 2, "en": 1}
    unknown = counts(utterance("sehr nice 2", "de-en"))
    assert unknown["tokens_by_language"] == {"unknown": 2, "other": 1}
    assert (unknown["utterances_of_unknown_languages"], unknown["switches"], unknown["cmi_mean"]) == (1, None, None)
    spans = (Span("de", text="sehr "), Span("en", text="nice 2"))  # a number in a span is read in its language
    known = counts(utterance("sehr nice 2", "de-en", spans))
    assert known["tokens_by_language"] == {"de": 1, "en": 2}
    assert (known["switches"], known["cmi_mean"]) == (1, 33.33)
    untold = (Span("de"), Span("en", text="nice 2"))
    assert counts(utterance("sehr nice 2", "de-en", untold))["cmi_mean"] is None


def test_text_of_no_language_has_no_code_mixing_index_here_and_in_scoring():
    found = counts(utterance("1 2"), utterance("가 go"))
    assert (found["utterances_of_unknown_languages"], found["cmi_mean"], found["switches"]) == (1, 50.0, 1)
    scored = score_set(
        [UtteranceToScore("a", "1 2", "1", ("ko", "en")), UtteranceToScore("b", "가 go", "", ("ko", "en"))]
    )
    assert scored.estimates["cmi"].value == 50
    assert scored.estimates["cmi"].denominator == 1


def test_statistics_of_three_utterances():
    statistics = ManifestCounts()
    statistics.add(utterance("이 bug는", duration=1.5, speaker="a"))  # 이 bug 는: two switches, one word of two: CMI 50
    statistics.add(utterance("go 가 (웃음)", duration=31.0, speaker="a"))  # go, 가, 웃음: one switch, CMI 100 / 3
    statistics.add(utterance("sehr nice", "de-en", duration=1.5))
    found = statistics.as_dict()
    assert found["utterances"] == 3
    assert found["hours"] == round(34 / 3600, 4)
    assert (found["speakers"], found["utterances_without_speaker"]) == (1, 1)
    assert found["duration_s"]["histogram"] == {
        "< 1": 0, "1-2": 2, "2-5": 0, "5-10": 0, "10-20": 0, "20-30": 0, ">= 30": 1
    }  # fmt: skip
    assert found["tokens_by_language"] == {"ko": 5, "en": 2, "unknown": 2}
    assert found["switches"] == 3
    assert found["cmi_mean"] == round((100 / 3 + 50) / 2, 2)
    assert found["utterances_of_unknown_languages"] == 1
    assert [item["name"] for item in found["alphabet_surprises"]] == [
        "U+0028 LEFT PARENTHESIS",
        "U+0029 RIGHT PARENTHESIS",
    ]
    assert statistics.lines() == [
        "  utterances  3, 34.0 s in all, 1.5 to 31.0 s each, 1 speaker",
        "  durations     1-2 s ████████████████████████████████ 2",
        "                2-5 s                                  0",
        "               5-10 s                                  0",
        "              10-20 s                                  0",
        "              20-30 s                                  0",
        "              >= 30 s ████████████████                 1",
        "  tokens      ko 5, en 2, unknown 2",
        "  switches    3, 1.50 an utterance",
        "  CMI         41.7",
        "  languages   unknown in 1 utterance: one script for both, and the corpus gives no spans",
        "  surprises   '(' U+0028 LEFT PARENTHESIS in 1 utterance, first in u",
        "              ')' U+0029 RIGHT PARENTHESIS in 1 utterance, first in u",
    ]


def test_numbers_as_people_read_them():
    assert [lasting(seconds) for seconds in (0.04, 59.9, 60, 3599, 3600, 8_640_000)] == [
        "0.0 s", "59.9 s", "1.0 min", "60.0 min", "1.0 h", "2,400.0 h"
    ]  # fmt: skip
    assert (counted(1, "utterance"), counted(20_000, "utterance")) == ("1 utterance", "20,000 utterances")
    many = ManifestCounts()
    many.add(utterance("".join(map(chr, range(0x430, 0x438))) + " 이"))
    assert many.lines()[-1] == "              and 3 characters more, all in corpus.json"


def test_alphabet_surprises():
    assert surprises("이 «bug»는 3.5 % – 좋아, don't! 5 €", ("ko", "en")) == set()
    assert surprises("데이터 漢字 はい Ж *a* \u200b", ("ko", "en")) == set("漢字はいЖ*\u200b")
    assert surprises("データ 漢字 ー々", ("ja", "en")) == set()
    assert surprises("schöne Grüße", ("de", "en")) == set()


def test_a_table_of_many_manifests(tmp_path: Path):
    spans = (Span("ko", text="이 "), Span("en", text="bug"), Span("ko", text="는"))
    rows = [utterance("이 bug는", spans=spans, id=str(number), duration=90.0, speaker="a") for number in range(1200)]
    write_manifest(tmp_path / "ko-en/train.jsonl", rows)
    write_manifest(tmp_path / "de-en/test.jsonl", [utterance("sehr nice", "de-en")])
    pad = " " * len(str(tmp_path))
    assert describe(tmp_path) == [
        f"manifest{pad[8:]}                    utterances  length  speakers  tokens              switches      CMI",
        f"{tmp_path}/de-en/test.jsonl            1   2.0 s         ?  unknown 2            unknown  unknown",
        f"{tmp_path}/ko-en/train.jsonl       1,200  30.0 h         1  ko 2,400, en 1,200      2.00     50.0",
    ]


# The draw


def write_folder(root: Path, count: int, split: str = "train") -> Path:
    lines = ["file_name,transcription"]
    for number in range(count):
        lines.append(f"{number:03d}.wav,이 bug는 {number}")
        put(root / split / f"{number:03d}.wav", wav(0.1, 16000, number))
    put(root / split / "metadata.csv", "\n".join(lines).encode())
    return root


def test_the_draw_is_the_n_smallest_hashes_of_seed_and_id(tmp_path: Path):
    source = SourceFiles(write_folder(tmp_path / "in", 40))
    reader = Folder(pair="ko-en", split="train", corpus="mine", licence="x")
    prepare(reader, source, tmp_path / "out", train_utterances=7, seed=3)
    by_hash = sorted((f"{i:03d}" for i in range(40)), key=lambda i: hashlib.sha256(f"3:{i}".encode()).hexdigest())
    drawn = [item.id for item in read_manifest(tmp_path / "out/train.jsonl")]
    assert drawn == sorted(by_hash[:7])  # in the corpus's order
    about = json.loads((tmp_path / "out/corpus.json").read_text())
    assert about["manifests"]["train.jsonl"]["drawn_ids"] == drawn
    assert (about["train_utterances"], about["seed"]) == (7, 3)
    prepare(reader, source, tmp_path / "other", train_utterances=7, seed=4)
    assert [item.id for item in read_manifest(tmp_path / "other/train.jsonl")] != drawn


def test_the_draw_makes_up_for_what_is_skipped_and_stores_no_more(tmp_path: Path):
    TREES["aihub"].write(tmp_path / "in", lambda data: b"")  # the one whole sentence of KE0001 is broken
    run("aihub", "--source", tmp_path / "in", "--out", tmp_path / "out", "--train-utterances", 1)
    (drawn,) = read_manifest(tmp_path / "out/train.jsonl")
    assert drawn.id in ("KE0002-000", "KE0002-002")
    assert sorted(path.name for path in (tmp_path / "out/audio").rglob("*.wav")) == ["KE0002.wav", "KE0003.wav"]


def test_draws_that_cannot_be(tmp_path: Path):
    write_folder(tmp_path / "in", 2)
    with pytest.raises(UserError, match="train.utterances is 0, expected a whole number of 1 or more"):
        run("folder", "--source", tmp_path / "in", "--pair", "ko-en", "--train-utterances", 0)
    found = prepare(
        Folder(pair="ko-en", split="train", corpus="mine", licence="x"),
        SourceFiles(tmp_path / "in"),
        tmp_path / "out",
        train_utterances=9,
    )
    assert found.examples["short draw"] == ["ko-en: 9 asked of 2 utterances"]
    write_folder(tmp_path / "tests", 2, split="test")
    with pytest.raises(UserError, match="no training split, only test"):
        run(
            "folder",
            "--source",
            tmp_path / "tests",
            "--pair",
            "ko-en",
            "--out",
            tmp_path / "o",
            "--train-utterances",
            1,
        )
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


# Leaks


def write_read_set(path: Path, sentence: int, text: str) -> None:
    put(path.parent / "deu.wav", wav(1.0, 16000, 99))
    known = utterance(text, "de-en", id="deu_x", audio=path.parent / "deu.wav", duration=1.0, split="test")
    write_manifest(path, [replace(known, source_sentence_id=f"fleurs:{sentence}")])


def test_unicom_sentences_of_the_read_set_are_refused(tmp_path: Path):
    TREES["unicom"].write(tmp_path / "in", lambda data: data)
    arguments = ("unicom", "--source", tmp_path / "in", "--out", tmp_path / "data/unicom")
    with pytest.raises(UserError, match=r"shares sentences with cs_fleurs.*run `python prepare.py cs_fleurs` first"):
        run(*arguments)
    write_read_set(tmp_path / "data/cs_fleurs/ja-en/test.jsonl", 7, "another language's reading of sentence 7")
    run(*arguments)
    kept = read_manifest(tmp_path / "data/unicom/train.jsonl")
    assert [item.source_sentence_id for item in kept] == ["fleurs:8"]
    (skipped,) = json.loads((tmp_path / "data/unicom/corpus.json").read_text())["skipped"]
    assert skipped["id"] == "7_English_German_(German)"
    assert re.search(r"metadata\.csv:2: leak: the sentence fleurs:7 .*/cs_fleurs/ja-en/test\.jsonl", skipped["reason"])


def test_transcripts_in_training_and_test_are_told(tmp_path: Path):
    TREES["unicom"].write(tmp_path / "in", lambda data: data)
    write_read_set(tmp_path / "read.jsonl", 1, "Das HOUSE ist alt!")
    found = prepare(
        discover()["unicom"](), SourceFiles(tmp_path / "in"), tmp_path / "out", held_out=[tmp_path / "read.jsonl"]
    )
    assert found.statistics["train"].utterances == 2
    (told,) = found.examples["transcript in training and test"]
    assert "metadata.csv:2" in told
    assert "read.jsonl (deu_x)" in told
    for seed, (split, text) in enumerate({"dev": "이 bug는!", "test": "이 Bug는.", "train": "이 bug는"}.items()):
        put(tmp_path / f"own/{split}/metadata.csv", f"file_name,text\na.wav,{text}\n".encode())
        put(tmp_path / f"own/{split}/a.wav", wav(0.5, 16000, seed))
    found = prepare(Folder(pair="ko-en"), SourceFiles(tmp_path / "own"), tmp_path / "out2")
    assert [line.split("metadata.csv:2: ")[1] for line in found.examples["transcript in training and test"]] == [
        "'이 Bug는.' is also in this corpus's dev split",
        "'이 bug는' is also in this corpus's test split",
    ]


def test_a_sentence_in_training_and_test_of_one_corpus_is_told(tmp_path: Path):
    TREES["unicom"].write(tmp_path / "in", lambda data: data)
    shutil.copytree(tmp_path / "in/intra/train/eng_deu", tmp_path / "in/intra/test/eng_deu")
    found = prepare(discover()["unicom"](), SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert "'fleurs:7' is also in this corpus's test split" in found.examples["sentence in training and test"][0]
    assert found.notices["sentence in training and test"] == 2 == found.notices["transcript in training and test"]


def test_held_out_manifests_come_besides_the_known_ones(tmp_path: Path):
    TREES["unicom"].write(tmp_path / "in", lambda data: data)
    read, other = tmp_path / "data/cs_fleurs/de-en/test.jsonl", tmp_path / "other/test.jsonl"
    write_read_set(read, 7, "etwas")
    write_read_set(other, 9, "anderes")
    arguments = ("unicom", "--source", tmp_path / "in", "--out", tmp_path / "data/unicom", "--held-out", other, read)
    run(*arguments)
    assert [item.source_sentence_id for item in read_manifest(tmp_path / "data/unicom/train.jsonl")] == ["fleurs:8"]
    assert json.loads((tmp_path / "data/unicom/corpus.json").read_text())["held_out"] == [str(read), str(other)]


def test_ids_that_stand_twice_are_skipped(tmp_path: Path):
    write_folder(tmp_path / "in", 1)
    path = tmp_path / "in/train/metadata.csv"
    path.write_text(path.read_text() + "\n000.wav,또 bug는\n")
    found = prepare(Folder(pair="ko-en"), SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert [re.search(r"metadata\.csv:3: the id stands twice", item.reason) is None for item in found.skipped] == [
        False
    ]


def test_a_corpus_of_nothing_usable_writes_nothing(tmp_path: Path):
    put(tmp_path / "in/train/metadata.csv", "file_name,text\na.wav,이 bug는\nb.wav,...\n".encode())
    with pytest.raises(
        UserError, match=r"no utterance left, 2 left out; the first: .*a\.wav: the audio file does not exist"
    ):
        run("folder", "--source", tmp_path / "in", "--pair", "ko-en", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_of_another_corpus_is_left_alone(tmp_path: Path):
    write_folder(tmp_path / "in", 2)
    arguments = ("folder", "--source", tmp_path / "in", "--pair", "ko-en", "--out", tmp_path / "out")
    run(*arguments, "--corpus", "mine")
    before = (tmp_path / "out/corpus.json").read_bytes()
    with pytest.raises(UserError, match=r"out: the corpus mine, prepared by folder, lies there; choose another --out"):
        run(*arguments, "--corpus", "yours")
    assert (tmp_path / "out/corpus.json").read_bytes() == before
    put(tmp_path / "demo/corpus.json", b'{"seed": 1}')
    with pytest.raises(UserError, match=r"demo: the corpus of another kind"):
        run(*arguments[:-1], tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["corpus.json"]


def test_a_file_that_no_preparation_left_is_not_written_over(tmp_path: Path):
    write_folder(tmp_path / "in", 2)
    arguments = ("folder", "--source", tmp_path / "in", "--pair", "ko-en", "--out", tmp_path / "out")
    for content in (b"mine\n", b'{"id": "mine"}\n', b""):
        put(tmp_path / "out/train.jsonl", content)
        with pytest.raises(UserError, match=r"out/train\.jsonl: exists, and is no manifest of an earlier call"):
            run(*arguments)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]
        assert (tmp_path / "out/train.jsonl").read_bytes() == content
    (tmp_path / "out/train.jsonl").unlink()
    run(*arguments)
    (tmp_path / "out/corpus.json").unlink()  # as where the call was killed before it wrote the record
    run(*arguments)
    assert (tmp_path / "out/corpus.json").exists()


def test_manifests_of_an_earlier_preparation_are_told(tmp_path: Path):
    TREES["cs_fleurs"].write(tmp_path / "in", lambda data: data)
    reader = discover()["cs_fleurs"]
    prepare(reader(), SourceFiles(tmp_path / "in"), tmp_path / "out")
    found = prepare(reader(pairs=("ko-en", "ja-en")), SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert found.examples == {
        "manifest of an earlier preparation": [f"{tmp_path}/out/de-en/test.jsonl: not in corpus.json any more"]
    }


def test_a_preparation_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Names, licence, statistics, what was left out and what was noticed; all of it also in corpus.json."""
    rows = [f"{name}.wav,이 bug는 {number}" for number, name in enumerate("abcdefgh")]
    put(tmp_path / "in/test/metadata.csv", "\n".join(["file_name,text", *rows]).encode())
    put(tmp_path / "in/test/a.wav", wav(30.5, 16000, 1))
    put(tmp_path / "in/test/b.wav", wav(1.0, 8000, 2))
    put(tmp_path / "in/test/c.wav", wav(1.0, 8000, 3))
    out = tmp_path / "out"
    run("folder", "--source", tmp_path / "in", "--pair", "ko-en", "--out", out, "--corpus", "mine", "--licence", "CC0")
    table = f"{tmp_path}/in/test/metadata.csv"
    assert capsys.readouterr().out.splitlines() == [
        f"mine from {tmp_path}/in, licence: CC0",
        "  test from test (3)",
        "",
        f"{out}/test.jsonl",
        "  utterances  3, 32.5 s in all, 1.0 to 30.5 s each, speakers not named",
        "  durations     1-2 s ████████████████████████████████ 2",
        "                2-5 s                                  0",
        "               5-10 s                                  0",
        "              10-20 s                                  0",
        "              20-30 s                                  0",
        "              >= 30 s ████████████████                 1",
        "  tokens      ko 6, en 3, other 3",
        "  switches    6, 2.00 an utterance",
        "  CMI         50.0",
        "",
        "5 utterances left out",
        *(
            f"  {name}: {table}:{line}: {tmp_path}/in/test/{name}.wav: the audio file does not exist"
            for line, name in enumerate("defgh", start=5)
        ),
        "",
        "noticed",
        f"  low sample rate, 2 times, the first: {table}:3: test/b.wav has 8000 Hz, Whisper takes 16000 Hz",
        f"  too long: {table}:2: test/a.wav lasts 30.5 s, Whisper's window holds 30 s",
    ]
    about = json.loads((out / "corpus.json").read_text())
    assert [item["id"] for item in about["skipped"]] == list("defgh")
    assert {item["kind"]: item["count"] for item in about["notices"]} == {"low sample rate": 2, "too long": 1}
    assert (about["corpus"], about["licence"], about["source"]) == ("mine", "CC0", f"{tmp_path}/in")
    counts = about["manifests"]["test.jsonl"]
    assert (counts["utterances"], counts["hours"], counts["speakers"]) == (3, round(32.5 / 3600, 4), None)


# The check


def checked(tmp_path: Path, capsys: pytest.CaptureFixture, *utterances: Utterance, tokenizer=None) -> tuple[int, str]:
    write_manifest(tmp_path / "m.jsonl", utterances)
    code = check([tmp_path / "m.jsonl"], tokenizer)
    return code, capsys.readouterr().out


def sound(tmp_path: Path, samples: np.ndarray, rate_hz: int = 16000, name: str = "u.wav") -> dict:
    soundfile.write(tmp_path / name, samples, rate_hz, subtype="FLOAT")
    return {"audio": tmp_path / name, "duration": len(samples) / rate_hz}


def test_check_passes_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture):
    loud = noise(2, 16000, 1)[:, 0]
    loud /= np.abs(loud).max()  # normalised, not clipped
    assert checked(tmp_path, capsys, utterance("이 bug는", **sound(tmp_path, loud)))[0] == 0
    assert "nothing found" in checked(tmp_path, capsys, utterance("이 bug는", **sound(tmp_path, loud)))[1]


@pytest.mark.parametrize(
    ("samples", "rate_hz", "fields", "code", "message"),
    [
        (noise(2, 16000, 1), 16000, {"audio": Path("none.wav")}, 1, r"unreadable audio: no such file \(.*/none\.wav\)"),
        (np.full(16000, np.nan), 16000, {}, 1, r"samples: 16000 of 16000 samples are not finite numbers \(.*/u\.wav\)"),
        (noise(2, 16000, 1), 16000, {"duration": 2.4}, 1, r"duration: 2\.40 s by the manifest, 2\.00 s in the audio"),
        (noise(2, 16000, 1), 16000, {"duration": 1.5}, 0, r"warning .* duration: 1\.50 s by the manifest, 2\.00 s"),
        (noise(30.5, 16000, 1), 16000, {}, 1, r"too long: 30\.50 s, Whisper's window holds 30 s"),
        (np.zeros(16000), 16000, {}, 1, r"silence: the loudest sample is 0\.00000"),
        (noise(2, 16000, 1).clip(-0.05, 0.05) * 19, 16000, {}, 0, r"clipping: \d+ samples at the level 0\.95"),
        (noise(2, 8000, 1), 8000, {}, 0, "sample rate: 8000 Hz"),
        (noise(2, 16000, 1, channels=2), 16000, {}, 0, "channels: 2 channels"),
        (
            noise(2, 16000, 1),
            16000,
            {"text": "이 Жbug는"},
            0,
            r"alphabet: not of ko-en: U\+0416 CYRILLIC CAPITAL LETTER",
        ),
        (noise(2, 16000, 1), 16000, {"text": "?!"}, 1, "text: not a word in"),
        (noise(2, 16000, 1), 16000, {"text": "가 a " * 80}, 0, "label length: up to 483 tokens"),
    ],
)
def test_check_finds(samples, rate_hz, fields, code, message, tmp_path: Path, capsys: pytest.CaptureFixture):
    known = {"text": "이 bug는"} | sound(tmp_path, samples, rate_hz) | fields
    found, printed = checked(tmp_path, capsys, utterance(**known))
    assert re.search(rf"m\.jsonl u: {message}" if not message.startswith("warning") else message, printed)
    assert printed.count(f"{tmp_path}/m.jsonl u: ") == 1
    assert found == code


def test_check_looks_at_an_utterances_part_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Two of four seconds each have an utterance, of one source sentence; the last second is silent."""
    samples = noise(4, 16000, 1)[:, 0]
    samples[48000:] = 0
    heard = sound(tmp_path, samples) | {"duration": 1.0, "source_sentence_id": "fleurs:1"}
    rows = [utterance("이 bug는", id="a", offset=1.0, **heard), utterance("그 bug는", id="b", offset=3.0, **heard)]
    code, printed = checked(tmp_path, capsys, *rows)
    assert code == 1
    assert re.findall(r"m\.jsonl (\w): ([a-z ]+):", printed) == [("b", "silence")]


def test_check_counts_label_tokens(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    text = "가 a " * 80
    heard = utterance(text, **sound(tmp_path, noise(2, 16000, 1)))
    for tokens_a_text, code in ((444, 0), (445, 1)):
        monkeypatch.setattr("corpora.check._token_counter", lambda name, n=tokens_a_text: lambda text: n)
        found, printed = checked(tmp_path, capsys, heard, tokenizer="some/whisper")
        assert found == code
        assert ("449 tokens, the most is 448" in printed) == bool(code)


def test_check_counts_tokens_as_training_does(tmp_path: Path, capsys: pytest.CaptureFixture, tiny_model: Path):
    """A word more at a time, across the limit, with a real tokenizer."""
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    word = len(tokenizer.encode(" 나", add_special_tokens=False))
    heard = sound(tmp_path, noise(2, 16000, 1))
    texts = ["나" + " 나" * n for n in range(444 // word - 3, 444 // word + 4)]
    rows = [utterance(text, id=str(i), **heard) for i, text in enumerate(texts)]
    sizes = {row.id: len(LabelMaker(tokenizer)(row)[0]) for row in rows}
    assert min(sizes.values()) <= 448 < max(sizes.values())
    code, printed = checked(tmp_path, capsys, *rows, tokenizer=str(tiny_model))
    found = dict(re.findall(r"(\d): label length: (\d+) tokens, the most is 448", printed))
    assert code == 1 and found == {name: str(size) for name, size in sizes.items() if size > 448}
    with pytest.raises(UserError, match=r"--tokenizer .*: no Whisper tokenizer there"):
        checked(tmp_path, capsys, *rows, tokenizer=str(tmp_path / "none"))


def test_check_finds_what_stands_twice(tmp_path: Path, capsys: pytest.CaptureFixture):
    first = sound(tmp_path, noise(1, 16000, 1), name="a.wav")
    second = sound(tmp_path, noise(1, 16000, 2), name="b.wav")
    train = [
        utterance("이 bug는", id="a", split="train", source_sentence_id="fleurs:1", **first),
        utterance("그 bug는", id="b", split="train", **second),
        utterance("이 BUG는!", id="c", split="train", **sound(tmp_path, noise(1, 16000, 3), name="c.wav")),
    ]
    test = [
        utterance("저 bug는", id="a", split="test", source_sentence_id="fleurs:1", **second),
        utterance("그 bug는", id="d", split="test", **sound(tmp_path, noise(1, 16000, 4), name="d.wav")),
    ]
    write_manifest(tmp_path / "m/train.jsonl", train)
    write_manifest(tmp_path / "m/test.jsonl", test)
    assert check([tmp_path / "m"]) == 1
    printed = capsys.readouterr().out
    found = sorted(re.findall(r"^(\w+) +\S+/(\w+)\.jsonl (\w): ([a-z ]+):", printed, re.M))
    assert found == [
        ("error", "train", "a", "sentence in training and test"),
        ("error", "train", "b", "audio in training and test"),
        ("warning", "train", "b", "transcript in training and test"),
        ("warning", "train", "c", "transcript twice"),
    ]
    assert "\n5 utterances, 5.0 s in 2 manifests:\n  error        1 audio in training and test\n" in printed
    write_manifest(tmp_path / "twice.jsonl", [train[0], replace(train[1], id="a")])
    assert check([tmp_path / "twice.jsonl"]) == 1
    assert "twice.jsonl a: id twice" in capsys.readouterr().out


def test_check_finds_a_leak_whatever_stands_before_it(tmp_path: Path, capsys: pytest.CaptureFixture):
    heard = sound(tmp_path, noise(1, 16000, 1))
    for split in ("dev", "test", "train"):
        write_manifest(tmp_path / f"m/{split}.jsonl", [utterance("이 bug는", id=split, split=split, **heard)])
    check([tmp_path / "m"])
    found = re.findall(r"^error +\S+ (\w+): (audio in training and test)", capsys.readouterr().out, re.M)
    assert [place for place, _ in found] == ["test", "train"]


def test_check_of_nothing(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no \.jsonl manifest"):
        run("check", tmp_path / "empty")
    put(tmp_path / "m.jsonl", b'{"text": 1}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:1: the field 'audio_filepath' is missing"):
        run("check", tmp_path / "m.jsonl")


# The Korean-German sheet


def hike(tmp_path: Path) -> Path:
    rows = [
        hike_row("dev-1", "이번 bug는 unit test에서 나왔어.", wav(1, 16000, 1)),
        hike_row("dev-2", "How are you? I'm fine. 그래!", wav(1, 16000, 2)),
        hike_row("dev-3", "그냥 한국어", wav(1, 16000, 3)),
        hike_row("dev-4", "이 cafe는 좋아", wav(1, 16000, 4)),
    ]
    parquet(tmp_path / "hike/data/test-00000-of-00001.parquet", rows)
    return tmp_path / "hike"


def filled(sheet: Path, german: dict[str, str], delimiter: str = ",") -> None:
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[3] = german.get(row[0], "")
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def test_the_sheet_out_and_back(tmp_path: Path, capsys: pytest.CaptureFixture):
    run("ko_de_script", "--source", hike(tmp_path), "--out", tmp_path / "ko_de")
    sheet = tmp_path / "ko_de/script.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "text", "english", "german"],
        ["dev-1", "이번 bug는 unit test에서 나왔어.", "bug | unit test", ""],
        ["dev-2", "How are you? I'm fine. 그래!", "How are you? I'm fine", ""],
        ["dev-4", "이 cafe는 좋아", "cafe", ""],
    ]
    with pytest.raises(UserError, match="a sheet is already there"):
        write_sheet(str(tmp_path / "hike"), sheet)
    filled(
        sheet, {"dev-1": "Fehler| Modultest ", "dev-2": "Wie geht's? Mir geht's gut", "dev-4": "Café"}, delimiter=";"
    )
    for name in ("dev-1", "dev-2"):
        put(tmp_path / f"recorded/{name}.wav", wav(1.5, 48000, 7))
    run(
        "ko_de_script",
        "--sheet",
        sheet,
        "--audio",
        tmp_path / "recorded",
        "--out",
        tmp_path / "ko_de",
        "--speaker",
        "kim",
    )
    first, second = read_manifest(tmp_path / "ko_de/test.jsonl")
    assert first.text == "이번 Fehler는 Modultest에서 나왔어."
    assert first.spans == tuple(
        Span(language, text=text)
        for language, text in [
            ("ko", "이번 "), ("de", "Fehler"), ("ko", "는 "), ("de", "Modultest"), ("ko", "에서 나왔어.")
        ]
    )  # fmt: skip
    assert (first.pair, first.matrix_language, first.split, first.speaker) == ("ko-de", "ko", "test", "kim")
    assert (first.source, first.duration) == ("ko_de", 1.5)
    assert second.text == "Wie geht's? Mir geht's gut. 그래!"
    assert "dev-4: " in capsys.readouterr().out
    (skipped,) = json.loads((tmp_path / "ko_de/corpus.json").read_text())["skipped"]
    assert re.search(r"script\.csv:4: no dev-4\.wav", skipped["reason"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bug | unit test,Fehler|Test",
            "bug | unit test,Fehler",
            r"script\.csv:2: the column 'german' is 'Fehler': 1 parts",
        ),
        ("bug | unit test,Fehler|Test", "bug | unit test,Fehler| ", r"script\.csv:2: the column 'german'"),
        (
            "bug | unit test",
            "bugs | unit test",
            r"script\.csv:2: the column 'english' is 'bugs \| unit test', but 'text'",
        ),
        ("german", "deutsch", r"script\.csv:2: the field 'german' is missing"),
    ],
)
def test_sheets_that_do_not_fit(old: str, new: str, message: str, tmp_path: Path):
    sheet = tmp_path / "script.csv"
    write_sheet(str(hike(tmp_path)), sheet)
    filled(sheet, {"dev-1": "Fehler|Test"})
    sheet.write_text(sheet.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    put(tmp_path / "recorded/dev-1.wav", wav(1, 16000, 1))
    with pytest.raises(UserError, match=message):
        prepare_recorded(sheet, tmp_path / "recorded", tmp_path / "out", None)


def test_an_untranslated_sentence_is_left_out(tmp_path: Path):
    sheet = tmp_path / "script.csv"
    write_sheet(str(hike(tmp_path)), sheet)
    filled(sheet, {"dev-1": "Fehler|Test", "dev-4": " "})
    for name in ("dev-1", "dev-4"):
        put(tmp_path / f"recorded/{name}.wav", wav(1, 16000, 1))
    skipped = prepare_recorded(sheet, tmp_path / "recorded", tmp_path / "out", None).skipped
    assert {item.id: item.reason.split("script.csv:")[1] for item in skipped} == {
        "dev-2": "3: the column 'german' is empty",
        "dev-4": "4: the column 'german' is empty",
    }


def test_the_sheet_needs_one_way(tmp_path: Path):
    for arguments in (["--source", "x", "--sheet", "y", "--audio", "z"], ["--sheet", "y"], ["--audio", "z"]):
        with pytest.raises(UserError, match="give --source or nothing to write the sheet, --sheet and --audio to read"):
            run("ko_de_script", *arguments)


def test_the_sheet_is_written_from_the_hub_where_no_source_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked = []
    folder = hike(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    run("ko_de_script", "--out", tmp_path / "ko_de")
    assert asked == ["thetaone-ai/HiKE"]
    assert len((tmp_path / "ko_de/script.csv").read_text(encoding="utf-8").splitlines()) == 4


# The commands


@pytest.mark.parametrize("name", discover())
def test_every_corpus_has_a_command(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    TREES[name].write(tmp_path / "in", lambda data: data)
    options = []
    for key, value in TREES[name].options.items():
        options += [f"--{key}", *(value if isinstance(value, tuple) else [value])]
    if discover()[name].held_out:
        write_read_set(tmp_path / "data/cs_fleurs/de-en/test.jsonl", 1, "nichts")
    assert run(name, "--source", tmp_path / "in", "--out", tmp_path / "data/out", *options) == 0
    printed = capsys.readouterr().out
    for item in TREES[name].expected:
        assert f"data/out/{item.manifest}.jsonl" in printed
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    assert discover()[name].__doc__.split()[0] in capsys.readouterr().out


def test_an_option_with_several_values(tmp_path: Path):
    TREES["cs_fleurs"].write(tmp_path / "in", lambda data: data)
    run("cs_fleurs", "--source", tmp_path / "in", "--out", tmp_path / "out", "--pairs", "ko-en", "de-en")
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("test.jsonl")) == ["de-en", "ko-en"]
    with pytest.raises(UserError, match="language 'xx': not one of"):
        run("cs_fleurs", "--source", tmp_path / "in", "--out", tmp_path / "out", "--pairs", "xx-en")
    with pytest.raises(UserError, match="pair 'ko_en': expected two-letter language codes joined by '-', like ko-de"):
        run("cs_fleurs", "--source", tmp_path / "in", "--out", tmp_path / "out", "--pairs", "ko_en")


def test_sound_of_a_corpus_prepared_from_here_is_expected_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    audio = tmp_path / "corpus" / "a.wav"
    trust(audio.parent)
    trust(audio.parent)
    assert (tmp_path / "work/.audio_roots").read_text() == f"{audio.parent}\n"
    assert read_manifest(pointing(tmp_path / "work" / "m.jsonl", audio))[0].audio == audio
    assert capsys.readouterr().err == ""
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_manifest(pointing(tmp_path / "work" / "n.jsonl", audio))[0].audio == audio
    assert f"takes sound from {audio.parent}" in capsys.readouterr().err


def pointing(manifest: Path, audio: Path) -> Path:
    """A manifest of one utterance with this audio, which is there."""
    audio.parent.mkdir(exist_ok=True)
    soundfile.write(audio, [0.0] * 16_000, 16_000)
    row = {"audio_filepath": str(audio), "duration": 1.0, "text": "hello", "matrix_language": "en", "pair": "en"}
    manifest.write_text(json.dumps(row) + "\n")
    return manifest


def test_a_changed_clip_leaves_the_file_that_an_earlier_manifest_points_to(tmp_path: Path):
    """The second preparation ends before its manifest is written: the first's audio is still there, and no debris."""
    header = Header(1.0, 16_000, 1, ".wav")
    first = ClipStore(None, tmp_path).store(Clip("a/b.wav", data=b"one"), header)
    (tmp_path / "audio" / "a" / ".c.wav.partial").write_bytes(b"half")
    again = ClipStore(None, tmp_path).store(Clip("a/b.wav", data=b"one"), header)
    assert again == first == tmp_path / "audio" / "a" / "b.wav"
    store = ClipStore(None, tmp_path)
    changed = store.store(Clip("a/b.wav", data=b"two"), header)
    assert changed == store.store(Clip("a/b.wav", data=b"two"), header) != first
    assert (first.read_bytes(), changed.read_bytes()) == (b"one", b"two")
    assert ClipStore(None, tmp_path).store(Clip("a/b.wav", data=b"two"), header) == changed
    assert sorted(file.name for file in (tmp_path / "audio").rglob("*.*")) == sorted([first.name, changed.name])

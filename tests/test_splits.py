"""Splits by name: what is called test or dev never becomes training, however folders and tables are laid out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import prepare as prepare_script
from common.errors import UserError
from common.files import check_name
from common.manifest import Utterance, read_manifest, write_manifest
from common.options import run
from corpora.corpus import prepare
from corpora.readers.folder import Folder
from corpora.readers.nemo import Nemo
from corpora.readers.source import SourceFiles
from corpora.readers.splits import split_named
from tests.corpus_trees import put, wav

WAV = wav(0.2, 16000, 1)


def table(*files: str, **more: str) -> bytes:
    return "\n".join(["file_name,text", *(f"{file},이 bug {file.replace('/', ' ')}" for file in files)]).encode()


def splits(out: Path) -> dict[str, str]:
    return {row.id: path.stem for path in out.rglob("*.jsonl") for row in read_manifest(path)}


def read(root: Path, out: Path, reader: type = Folder, **options: str) -> dict[str, str]:
    prepare(reader(pair="ko-en", **options), SourceFiles(root), out)
    return splits(out)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("1.Training", "train"), ("train-clean-100", "train"),
        ("train_manifest", "train"), ("val", "dev"), ("valid", "dev"), ("validation", "dev"), ("dev_other", "dev"),
        ("my.val", "dev"), ("test", "test"), ("testing", "test"), ("test-clean", "test"), ("Test_other", "test"),
        ("eval", "test"), ("evaluation", "test"), ("2.Evaluation", "test"), ("testset", "test"),
        ("한국어-test", "test"),
        ("mine", None), ("contest", None), ("latest", None), ("validated", None), ("train_dev", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None):
    assert split_named(name) == split


def test_folders_of_the_usual_names(tmp_path: Path):
    usual = {"train": "train", "val": "dev", "testing": "test", "evaluation": "test", "test-clean": "test"}
    for name in usual:
        put(tmp_path / f"in/{name}/metadata.csv", f"file_name,text,id\nx.wav,이 {name},{name}\n".encode())
        put(tmp_path / f"in/{name}/x.wav", WAV)
    found = prepare(Folder(pair="ko-en"), SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert splits(tmp_path / "out") == usual
    assert found.lines()[1:4] == [
        "  dev from val (1)",
        "  test from evaluation (1), test-clean (1), testing (1)",
        "  train from train (1)",
    ]
    put(tmp_path / "in/mine/metadata.csv", b"file_name,text,id\nx.wav,mine,mine\n")
    put(tmp_path / "in/mine/x.wav", WAV)
    with pytest.raises(
        UserError, match=r"mine/metadata.csv:2: neither a folder nor the table names its split.*--split"
    ):
        read(tmp_path / "in", tmp_path / "out2")
    assert read(tmp_path / "in", tmp_path / "out3", split="dev") == usual | {"mine": "dev"}


def test_one_table_over_split_folders(tmp_path: Path):
    files = ["train/a.wav", "train/b.wav", "test/c.wav"]
    for file in files:
        put(tmp_path / "in" / file, WAV)
    put(tmp_path / "in/metadata.csv", table(*files))
    expected = {"train/a": "train", "train/b": "train", "test/c": "test"}
    assert read(tmp_path / "in", tmp_path / "out") == expected
    assert read(tmp_path / "in/metadata.csv", tmp_path / "alone") == expected


def test_a_row_taken_for_training_before_a_name_was_in_sight_is_refused(tmp_path: Path):
    for file in ("a.wav", "test/b.wav"):
        put(tmp_path / "in" / file, WAV)
    put(tmp_path / "in/metadata.csv", table("a.wav", "test/b.wav"))
    for source in ("in", "in/metadata.csv"):  # the table alone names its files one by one
        with pytest.raises(
            UserError, match=r"metadata.csv:2: neither a folder nor the table names its split, but .*test/b.wav"
        ):
            read(tmp_path / source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_a_training_table_may_not_list_test_speech(tmp_path: Path):
    put(tmp_path / "in/train/test/a.wav", WAV)
    put(tmp_path / "in/train/metadata.csv", table("test/a.wav"))
    with pytest.raises(UserError, match=r"metadata.csv:2: its table and folders name 2 splits \(train, test\)"):
        read(tmp_path / "in", tmp_path / "out")


def test_nothing_in_sight_is_training_and_the_sources_own_name_counts(tmp_path: Path):
    for folder in ("mine", "test-other"):
        put(tmp_path / folder / "a.wav", WAV)
        put(tmp_path / folder / "metadata.csv", table("a.wav"))
    assert read(tmp_path / "mine", tmp_path / "out") == {"a": "train"}
    assert read(tmp_path / "test-other", tmp_path / "out2") == {"a": "test"}


def test_nemo_manifests_by_name_and_a_flat_folder_of_splits_asks(tmp_path: Path):
    row = {"audio_filepath": "../wavs/a.wav", "duration": 0.2, "text": "이 bug"}
    put(tmp_path / "in/wavs/a.wav", WAV)
    for name in ("train_manifest.json", "val_manifest.json", "manifest-evaluation.jsonl"):
        put(tmp_path / "in/lists" / name, json.dumps(row | {"id": name}).encode())
    assert read(tmp_path / "in", tmp_path / "out", Nemo) == {
        "train_manifest.json": "train", "val_manifest.json": "dev", "manifest-evaluation.jsonl": "test"
    }  # fmt: skip
    put(tmp_path / "in/lists/all.json", json.dumps(row).encode())
    with pytest.raises(UserError, match="all.json:1: neither a folder nor the table names"):
        read(tmp_path / "in", tmp_path / "out2", Nemo)


TRAIN, DEV, TEST = ["train", "training", "train-clean", "1.Training"], ["val", "dev_other", "validation"], [
    "test", "testing", "evaluation", "test-clean", "my_eval"
]  # fmt: skip


@pytest.mark.parametrize("seed", range(200))
def test_no_test_or_dev_file_is_ever_trained_on(seed: int, tmp_path: Path):
    """Random trees of split and other folders, with tables at any height; each file's id holds its own split's name."""
    rng = random.Random(seed)
    kinds = {"train": TRAIN, "dev": DEV, "test": TEST}
    files: list[str] = []
    for number in range(rng.randint(2, 6)):
        kind = rng.choice(list(kinds))
        parts = [rng.choice(kinds[kind])] + rng.sample(["kim", "wavs", "mine", "a"], rng.randint(0, 2))
        rng.shuffle(parts)
        files.append("/".join([*parts, f"{kind.upper()}x{number}.wav"]))
    for file in files:
        put(tmp_path / "in" / file, WAV)
    rest = list(files)
    while rest:  # a table at a random folder above some file takes all files below it that have none yet
        steps = rng.choice(rest).split("/")[:-1]
        folder = "/".join(steps[: rng.randint(0, len(steps))])
        below = [file for file in rest if file.startswith(f"{folder}/" if folder else "")]
        rest = [file for file in rest if file not in below]
        names = [file.removeprefix(f"{folder}/") if folder else file for file in below]
        put(tmp_path / "in" / folder / f"{rng.choice(['', 'all_', 'train_'])}metadata.csv", table(*names))
    try:
        found = read(tmp_path / "in", tmp_path / "out")
    except UserError as error:
        assert "--split" in str(error)
        return
    for identity, split in found.items():
        assert Path(identity).name.lower().startswith(split) or split != "train", identity


# Tables and paths


def test_tables_by_tabs_arrays_backslashes_and_of_common_voice(tmp_path: Path):
    for name in ("tabs", "array", "cv/clips", "back/clips", "tsv"):
        put(tmp_path / name / "a.wav", WAV)
    row = {"audio_filepath": "a.wav", "duration": 0.2, "text": "이 bug"}
    put(tmp_path / "tabs/metadata.csv", "file_name\ttext\na.wav\t이 bug\n".encode())
    put(tmp_path / "tsv/metadata.tsv", 'file_name\ttext\na.wav\t이 "bug\n'.encode())
    put(tmp_path / "array/train.json", json.dumps([row], indent=1).encode())
    put(tmp_path / "back/train.json", json.dumps(row | {"audio_filepath": r"clips\a.wav"}).encode())
    header = "client_id\tpath\tsentence\tup_votes\n"
    put(tmp_path / "cv/dev.tsv", (header + 'kim\ta.wav\t이 "bug\t2\n').encode())
    put(tmp_path / "cv/validated.tsv", (header + "kim\ta.wav\t이 bug\t2\n").encode())
    assert read(tmp_path / "tabs", tmp_path / "out1") == {"a": "train"}
    assert read(tmp_path / "tsv", tmp_path / "out2") == {"a": "train"}
    assert read(tmp_path / "array", tmp_path / "out3", Nemo) == {"a": "train"}
    assert read(tmp_path / "back", tmp_path / "out4", Nemo) == {"clips/a": "train"}
    found = prepare(Folder(pair="ko-en"), SourceFiles(tmp_path / "cv"), tmp_path / "out5")
    (utterance,) = read_manifest(tmp_path / "out5/dev.jsonl")
    assert (utterance.text, utterance.speaker, found.notices) == ('이 "bug', "kim", {})


def test_backslashes_in_a_manifest(tmp_path: Path):
    put(tmp_path / "clips/a.wav", WAV)
    row = {"audio_filepath": r"clips\a.wav", "duration": 0.2, "text": "이 bug", "lang": "ko"}
    put(tmp_path / "m.jsonl", json.dumps(row).encode())
    (utterance,) = read_manifest(tmp_path / "m.jsonl")
    assert utterance.audio == tmp_path / "clips/a.wav"
    put(tmp_path / "array.jsonl", json.dumps([row, row | {"text": ""}]).encode())
    with pytest.raises(UserError, match=r"array.jsonl\[1\]: the text is empty"):
        read_manifest(tmp_path / "array.jsonl")


@pytest.mark.parametrize("name", ["../../climb", "a/b", "..", ".hidden", "", "a\nb", "/etc"])
def test_names_that_would_lead_elsewhere_are_refused(name: str, tmp_path: Path):
    with pytest.raises(UserError, match="cannot name a file or folder"):
        check_name(name, "x")
    put(tmp_path / "in/a.wav", WAV)
    put(tmp_path / "in/metadata.csv", table("a.wav"))
    with pytest.raises(UserError, match="--split: .* cannot name a file or folder"):
        read(tmp_path / "in", tmp_path / "out", split=name)
    utterance = Utterance("a", tmp_path / "in/a.wav", 0.2, "이 bug", name or "..", "ko")
    write_manifest(tmp_path / "in/m.jsonl", [utterance])
    with pytest.raises(UserError, match="m.jsonl:1: the pair: .* cannot name a file or folder"):
        read_manifest(tmp_path / "in/m.jsonl")


def test_audio_that_a_named_manifest_points_to_is_trusted_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("kim/a.wav", "lee/b.wav"):
        put(tmp_path / "corpus/audio" / name, WAV)
    rows = [
        {"audio_filepath": str(tmp_path / "corpus/audio" / name), "duration": 0.2, "text": "이 bug", "id": name[0]}
        for name in ("kim/a.wav", "lee/b.wav")
    ]
    put(tmp_path / "lists/train.json", "\n".join(map(json.dumps, rows)).encode())
    arguments = ["nemo", "--source", str(tmp_path / "lists/train.json"), "--pair", "ko-en", "--out", "out"]
    for said in (True, False):
        run(prepare_script.PREPARE, arguments)
        assert (f"audio outside the source: {tmp_path}/corpus/audio" in capsys.readouterr().out) == said
        assert [utterance.id for utterance in read_manifest("out/train.jsonl")] == ["k", "l"]


def test_control_tokens_in_a_corpus_are_refused(tmp_path: Path):
    put(tmp_path / "in/a.wav", WAV)
    put(tmp_path / "in/metadata.csv", "file_name,text\na.wav,<|0.00|>이 bug\n".encode())
    with pytest.raises(UserError, match=r"metadata.csv:2: the text holds the control token <\|0.00\|>"):
        read(tmp_path / "in", tmp_path / "out")

"""Whatever lies in a file, a reader reads it or refuses it in one message; whatever is said can be scored.

`FUZZ_EXAMPLES` is how many cases each property is tried on.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone.model_folder.locate import weight_files
from backbone.model_folder.stored import ITEM_BYTES, ModelFolder
from common.audio import load_waveform
from common.configs import read_yaml
from common.errors import UserError
from common.escape import csv, html, latex, markdown, visible
from common.manifest import iter_manifest, read_manifest
from corpora.readers.source import SourceFiles
from corpora.readers.tables import read_csv, read_jsonl
from scoring.edit_alignment import align
from scoring.tokens import PROFILES
from scoring.transcript_files import read_json_lines, read_run, read_texts
from tests.corpus_trees import TREES, put, wav
from tests.test_readers_layouts import READERS, prepared

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 60,  # the short run is the same every time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8)


def read_or_refused(name: str, content: bytes, read: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        try:
            read(file)
        except UserError as error:
            assert str(error).strip()


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a stretch replaced, removed, repeated or grown."""

    def change(edit: tuple[int, int, bytes, int]) -> bytes:
        first, length, new, times = edit
        first %= len(whole) + 1
        return whole[:first] + new * times + whole[first + length :]

    edits = st.tuples(st.integers(0, 2**20), st.integers(0, 64), st.binary(max_size=16), st.integers(0, 3))
    return edits.map(change)


MANIFEST_ROW = {
    "id": "u", "audio_filepath": "a.wav", "offset": 0.0, "duration": 1.0, "text": "책 book", "pair": "ko-en",
    "matrix_language": "ko", "spans": [{"language": "ko", "start": 0.0, "end": 0.5, "text": "책"}], "speaker": "s",
    "source": "x", "source_sentence_id": "y", "split": "train", "licence": "CC0-1.0",
}  # fmt: skip


@fuzz
@given(st.sampled_from(sorted(MANIFEST_ROW)), VALUES, st.sampled_from(["spans", "row"]))
def test_manifest_fields(field: str, value: Any, where: str):
    row = dict(MANIFEST_ROW) | ({field: value} if where == "row" else {"spans": [{"language": "ko", field: value}]})
    line = json.dumps(row).encode()
    read_or_refused("m.jsonl", line, lambda file: read_manifest(file, check_audio=False))
    read_or_refused("m.jsonl", line, read_manifest)


@fuzz
@given(mutated(json.dumps(MANIFEST_ROW, ensure_ascii=False).encode()) | st.binary(max_size=200))
def test_manifest_bytes(content: bytes):
    read_or_refused("m.jsonl", content, lambda file: list(iter_manifest(file, check_audio=False)))


@fuzz
@given(mutated(wav(0.2, 16_000, 0)) | mutated(wav(0.1, 8_000, 1, "FLOAT", 2)) | st.binary(max_size=100))
def test_audio(content: bytes):
    read_or_refused("a.wav", content, load_waveform)
    read_or_refused("a.wav", content, lambda file: load_waveform(file, 0.05, 0.1))


@fuzz
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_tables(text: str):
    def read(file: Path) -> None:
        list(read_csv(SourceFiles(file.parent), file.name))

    def read_lines(file: Path) -> None:
        list(read_jsonl(SourceFiles(file.parent), file.name))

    content = text.encode("utf-8", errors="surrogatepass")
    read_or_refused("t.csv", content, read)
    read_or_refused("t.jsonl", content, read_lines)


@pytest.mark.parametrize("name", sorted(READERS))
@settings(parent=fuzz, max_examples=max(10, EXAMPLES // 4))
@given(data=st.data())
def test_corpora(name: str, data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        TREES[name].write(root, lambda content: content)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        file = data.draw(st.sampled_from(files))
        put(file, data.draw(mutated(file.read_bytes())))
        try:
            prepared(name, root, Path(folder) / "out")
        except UserError as error:
            assert str(error).strip()


def stored(file: Path) -> ModelFolder:
    (file.parent / "config.json").write_text("{}")
    return ModelFolder(file.parent, "fuzz")


@fuzz
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from([*ITEM_BYTES, "I64", "F8_E4M3"]) | VALUES,
                "shape": st.lists(st.integers(-2, 2**40), max_size=3) | VALUES,
                "data_offsets": st.lists(st.integers(-8, 200), min_size=2, max_size=2) | VALUES,
            }
        )
        | VALUES,
        max_size=3,
    ),
    st.binary(max_size=128),
)
def test_safetensors_headers(header: dict[str, Any], data: bytes):
    text = json.dumps(header).encode()

    def read(file: Path) -> None:
        folder = stored(file)
        for name, tensor in folder.tensors.items():
            assert folder.tensor(name).numel() == tensor.numel

    read_or_refused("model.safetensors", struct.pack("<Q", len(text)) + text + data, read)


@fuzz
@given(st.binary(max_size=64), VALUES)
def test_safetensors_bytes(content: bytes, index: Any):
    read_or_refused("model.safetensors", content, lambda file: stored(file).tensors)
    text = json.dumps({"weight_map": index}).encode()
    read_or_refused("model.safetensors.index.json", text, lambda file: weight_files(file.parent))


@fuzz
@given(
    VALUES, st.sampled_from(["reference", "hypothesis", "pair", "spans", "speaker", "loanwords", "normalized", "id"])
)
def test_transcript_rows(value: Any, field: str):
    row = {"reference": "이번 project", "hypothesis": "이번", "model": "a", "set": "s", "profile": "cjk"} | {
        field: value
    }
    read_or_refused("h.jsonl", json.dumps(row).encode(), read_json_lines)
    read_or_refused("h.jsonl", json.dumps(row).encode(), read_run)


@fuzz
@given(st.binary(max_size=100))
def test_transcripts_line_by_line(content: bytes):
    read_or_refused("a.txt", content, lambda file: read_texts(file, file))


@fuzz
@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: data.decode("latin-1")))
def test_configurations(text: str):
    content = text.encode("utf-8", errors="surrogatepass")
    read_or_refused("c.yaml", content, read_yaml)


ANY_TEXT = st.text(max_size=60) | st.text(st.sampled_from("aé이번漢ーか゚'’—İß \u200b\u202e\ud800𝔘"), max_size=30)


@fuzz
@given(ANY_TEXT, ANY_TEXT, st.sampled_from(sorted(PROFILES)))
def test_anything_that_is_said_can_be_scored(reference: str, hypothesis: str, profile: str):
    """Counts are those of an edit distance: none against itself, and they add up to the lengths."""
    said, heard = PROFILES[profile].reference(reference), PROFILES[profile].hypothesis(hypothesis)
    assert all(isinstance(token, str) and token for token in said + heard)
    counts = align(said, heard).counts
    assert counts.hits + counts.substitutions + counts.deletions == len(said)
    assert counts.hits + counts.substitutions + counts.insertions == len(heard)
    assert abs(len(said) - len(heard)) <= counts.substitutions + counts.deletions + counts.insertions
    same = align(said, said).counts
    assert (same.substitutions, same.deletions, same.insertions) == (0, 0, 0)


@fuzz
@given(ANY_TEXT)
def test_anything_that_is_said_stays_text(text: str):
    for escape in (visible, html, markdown, latex, csv):
        assert "\u202e" not in escape(text) and "\x1b" not in escape(text)
    assert "<" not in html(text) and '"' not in html(text)
    assert not csv(text).lstrip().startswith(("=", "+", "-", "@"))

"""Every kind of file that is read, emptied, cut and with bits flipped: it is read, or refused in one message."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from backbone.model_folder.read import read_model_folder
from backbone.model_folder.stored import ModelFolder
from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path
from common.audio import load_waveform
from common.configs import read_yaml
from common.errors import UserError
from common.manifest import read_manifest
from corpora.readers import discover
from corpora.readers.source import SourceFiles
from decoding.transcriber import Hypothesis
from evaluation.hypotheses import StoredHypotheses
from merging.merge_run import is_finished, merge
from merging.recipe import RECIPE_FILE, recipe_of
from scoring.transcript_files import read_json_lines, read_run, read_texts
from tests.corpus_trees import TREES
from tests.faults.conftest import Tally
from tests.merging_models import whispers  # noqa: F401
from tests.test_readers_layouts import prepared
from tests.test_reliability_checkpoints import STATE

pytestmark = pytest.mark.slow
READERS = discover()


def damaged(whole: bytes, seed: str, flips: int = 25) -> Iterator[tuple[str, bytes]]:
    """The same bytes gone, cut at four places, and with one bit after the other flipped."""
    draw = random.Random(seed)
    yield "empty", b""
    for length in (1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        yield f"cut to {length} of {len(whole)} bytes", whole[:length]
    for _ in range(flips):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        yield (
            f"bit {bit} of byte {place} flipped",
            whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :],
        )


def try_all(file: Path, read: Callable[[], Any], tally: Tally, flips: int = 25) -> None:
    """Reads the file damaged in every way, then puts it back."""
    whole = file.read_bytes()
    read()  # as it is, it can be read
    for fault, content in damaged(whole, file.name, flips):
        file.write_bytes(content)
        try:
            read()
        except UserError as error:
            tally.judge("unreadable error", None if str(error).strip() and len(str(error)) < 1500 else repr(error))
        except Exception as error:
            tally.failed("unreadable error", f"{file.name}, {fault}: {type(error).__name__}: {str(error)[:200]}")
        else:
            tally.survived()
    file.write_bytes(whole)


def test_manifests(manifests: dict[str, str], tmp_path: Path, tally: Tally):
    file = tmp_path / "m.jsonl"
    file.write_text(Path(manifests["ko-en"]).read_text(encoding="utf-8").replace('"audio_filepath": "',
                    f'"audio_filepath": "{Path(manifests["ko-en"]).parent}/'), encoding="utf-8")  # fmt: skip
    try_all(file, lambda: read_manifest(file), tally, flips=200)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_audio(suffix: str, tmp_path: Path, tally: Tally):
    file = tmp_path / f"a{suffix}"
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(8_000), 16_000)
    try_all(file, lambda: load_waveform(file, 0.1, 0.3), tally, flips=200)
    try_all(file, lambda: load_waveform(file), tally, flips=200)


@pytest.mark.parametrize("name", READERS)
def test_corpora(name: str, tmp_path: Path, tally: Tally):
    """Tables, labels and archives in every corpus's layout."""
    root = tmp_path / "in"
    TREES[name].write(root, lambda data: data)
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    tables = [path for path in files if path.suffix not in (".wav", ".flac", ".pcm")][:4]
    for number, file in enumerate([*tables, files[0]]):
        try_all(file, lambda number=number: prepared(name, root, tmp_path / f"out-{number}"), tally, flips=15)
    archive = tmp_path / "delivery.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            packed.write(path, path.relative_to(root))

    def read() -> None:
        source = SourceFiles(archive)
        for member in source.names:
            source.read(member)

    try_all(archive, read, tally, flips=60)


def test_model_folders(tiny_model: Path, tmp_path: Path, tally: Tally):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for file in sorted(folder.iterdir()):
        try_all(file, lambda: read_model_folder(folder), tally, flips=6)


def test_merging(whispers: Path, tmp_path: Path, tally: Tally):  # noqa: F811
    folder = tmp_path / "one"
    shutil.copytree(whispers / "ko_en" / "model", folder)
    models = [str(folder), str(whispers / "ja_en" / "model")]
    recipe = recipe_of("linear", {"models": models, "base": "none"})

    def read_weights() -> None:
        opened = ModelFolder(folder, "one")
        for name in opened.tensors:
            opened.tensor(name)

    try_all(folder / "model.safetensors", read_weights, tally, flips=60)
    for file in sorted(folder.glob("*.json")):
        try_all(file, lambda: merge(recipe, tmp_path / "out"), tally, flips=6)
    try_all(tmp_path / "out" / RECIPE_FILE, lambda: is_finished(recipe, tmp_path / "out"), tally)
    try_all(folder / "config.json", lambda: ModelFolder(folder, "one").config, tally)


def test_configurations(tmp_path: Path, tally: Tally):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"models": {"a": "x"}, "test": {"ko-en": "m.jsonl"}, "beams": 2}), encoding="utf-8")
    try_all(file, lambda: read_yaml(file), tally, flips=200)


def test_transcripts(tmp_path: Path, tally: Tally):
    spans = [{"language": "ko", "text": "이번"}]
    row = {"reference": "이번 project", "hypothesis": "이번", "pair": "ko-en", "spans": spans}
    rows = [row | {"id": f"u{n}", "model": "a", "set": "s", "profile": "cjk"} for n in range(3)]
    file = tmp_path / "hypotheses.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    try_all(file, lambda: read_run(file), tally, flips=200)
    try_all(file, lambda: read_json_lines(file), tally, flips=200)
    text = tmp_path / "a.txt"
    text.write_text("이번 project\nzwei\n", encoding="utf-8")
    try_all(text, lambda: read_texts(text, text), tally, flips=60)


def test_kept_transcripts(tmp_path: Path, tally: Tally):
    """A line that was torn is decoded again; no other is lost."""
    kept = StoredHypotheses(tmp_path, "ko-en", {"model": "a"})
    for batch in range(4):
        kept.append(0, [(f"u{batch}", Hypothesis("이번 project"))], {"torch": "2"})
    file = next(tmp_path.glob("*.jsonl"))
    try_all(file, kept.read, tally, flips=200)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        before = len(kept.read())
        kept.append(0, [("new", Hypothesis("x"))], {"torch": "2"})
        tally.judge("lost work", None if len(kept.read()) == before + 1 else f"cut to {length}")


def test_checkpoints(tmp_path: Path, tally: Tally):
    file = checkpoint_path(tmp_path, 1)
    CheckpointFiles().save_checkpoint(STATE, file)
    try_all(file, lambda: CheckpointFiles().load_checkpoint(file), tally, flips=300)

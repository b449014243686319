"""Names and texts that would act on a terminal, and links where a table should be, in everything that reads files."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbone.model_folder.locate import weight_files
from backbone.model_folder.stored import ModelFolder
from common.configs import read_yaml
from common.errors import UserError
from common.manifest import read_manifest
from common.printing import show
from corpora.check import check
from corpora.readers.source import SourceFiles
from corpora.readers.tables import read_csv, read_jsonl
from scoring.transcript_files import read_json_lines, read_run, read_texts
from tests.corpus_trees import TREES
from tests.faults.conftest import Tally
from tests.test_readers_layouts import READERS, prepared

ACTS = ("\x1b[31m", "\u202e", "\x9b2J", "\x07", "\u2066", "\r", "\x7f")
PASSWD = "root:x:0:0:root:/root:/bin/bash\nsecret:$6$hash:1000::/home/secret:/bin/sh\n"  # noqa: S105
TEXTS = {".csv", ".tsv", ".json", ".jsonl", ".txt", ".yaml"}


def acting(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\t"]


def outcome(read: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    """What a user sees of it."""
    try:
        read()
        message = ""
    except UserError as error:
        message = str(error)
    shown = capsys.readouterr()
    return shown.out + shown.err + message


@pytest.mark.parametrize("name", sorted(READERS))
def test_corpora(name: str, tmp_path: Path, tally: Tally, capsys: pytest.CaptureFixture[str]):
    draw = random.Random(name)
    for fault in range(6):
        root = tmp_path / f"{fault}\x1b[31m\u202e"
        TREES[name].write(root, lambda content: content)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        tables = [path for path in files if path.suffix in TEXTS and any(map(str.isalpha, path.read_text("utf-8-sig")))]
        if fault % 2 and tables:  # in a table, before some letter of it
            file = draw.choice(tables)
            text = file.read_text(encoding="utf-8-sig")
            places = [place for place, char in enumerate(text) if char.isalpha()]
            place = draw.choice(places)
            file.write_text(text[:place] + draw.choice(ACTS) + text[place:], encoding="utf-8")
        else:  # in a file's name
            file = draw.choice(files)
            file.rename(file.with_name(f"{file.stem}{draw.choice(ACTS)}{file.suffix}"))
        seen = outcome(lambda root=root, out=tmp_path / f"out{fault}": show(*prepared(name, root, out).lines()), capsys)
        tally.judge("injected", acting(seen))
        for manifest in (tmp_path / f"out{fault}").rglob("*.jsonl"):
            tally.judge("injected", acting(outcome(lambda manifest=manifest: check([manifest]), capsys)))


@pytest.mark.parametrize("name", sorted(READERS))
def test_links_to_files_of_the_system_are_not_quoted(
    name: str, tmp_path: Path, tally: Tally, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "passwd").write_text(PASSWD)
    TREES[name].write(tmp_path / "in", lambda content: content)
    tables = [path for path in (tmp_path / "in").rglob("*") if path.suffix in TEXTS and path.is_file()]
    for number, table in enumerate(tables):
        before = table.read_bytes()
        table.unlink()
        table.symlink_to(tmp_path / "passwd")
        out = tmp_path / f"out{number}"
        seen = outcome(lambda out=out: show(*prepared(name, tmp_path / "in", out).lines()), capsys)
        tally.judge("injected", seen if "bin/" in seen or "secret:" in seen else None)
        table.unlink()
        table.write_bytes(before)
    if not tables:
        tally.survived()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("m.jsonl", read_manifest),
        ("c.yaml", read_yaml),
        ("t.csv", lambda file: list(read_csv(SourceFiles(file.parent), file.name))),
        ("t.tsv", lambda file: list(read_csv(SourceFiles(file.parent), file.name))),
        ("t.jsonl", lambda file: list(read_jsonl(SourceFiles(file.parent), file.name))),
        ("h.jsonl", read_json_lines),
        ("h.jsonl", read_run),
        ("r.txt", lambda file: read_texts(file, file.with_name("empty.txt"))),
        ("config.json", lambda file: ModelFolder(file.parent, "model").config),
        ("model.safetensors", lambda file: ModelFolder(file.parent, "model").tensors),
        ("model.safetensors.index.json", lambda file: weight_files(file.parent)),
    ],
)
def test_no_reader_quotes_a_file_that_is_none_of_its_kind(
    name: str, read: Callable[[Path], Any], tmp_path: Path, tally: Tally, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).unlink(missing_ok=True)
    for content in (PASSWD, "key: [unclosed secret:\n", "a\tb: secret:\n- {", '{"secret:": \x1b[31m', "secret:\x1b\n"):
        (tmp_path / "passwd").write_text(content)
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "passwd")
        seen = outcome(lambda: read(tmp_path / name), capsys)
        tally.judge("injected", seen if "bin/" in seen or "secret:" in seen or acting(seen) else None)

"""Mistakes that used to end in a traceback of some library, by kind: each is one message now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbone.model_folder.hub import add_scores
from callbacks.checkpoint_files import readable_restoring
from common.audio import write_sound
from common.errors import UserError, first_line, run_script
from common.options import parse
from datamodules.pairs import readable_worker_errors
from evaluation.hypotheses import StoredHypotheses
from evaluation.test_sets import read_sets
from lightning_modules.whisper import WhisperModule
from scoring.compare import _averaged
from training.train_options import command as train_command

# What an evaluation keeps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '{"id": ["u"], "hypothesis": "x"}',
        '{"id": "u", "hypothesis": null}',
        '{"id": "u", "hypothesis": 5}',
        '{"id": "u", "hypothesis": "x", "cut": []}',
        '{"id": "u", "hypothesis": "\\ud83d"}',
        '{"id": 5, "hypothesis": {}}',
        "[" * 100_000,
        "9" * 5000,
        "null",
        '{"made_with": [1]}',
        "\0\0",
    ],
)
def test_a_kept_transcript_of_another_shape_is_made_again(line: str, tmp_path: Path):
    kept = StoredHypotheses(tmp_path, "ko-en", {"model": "a"})
    (tmp_path / f"{kept._stem}.0.jsonl").write_text(f'{{"made_with": {{"torch": "2"}}}}\n{line}\n', encoding="utf-8")
    assert kept.read() == {}
    assert kept.made_with() == {"torch": "2"}


@pytest.mark.parametrize(
    "labels",
    [
        "[]",
        "null",
        "[" * 100_000,
        '{"u": 5}',
        '{"u": {"loanwords": "ab"}}',
        '{"u": {"loanwords": 3}}',
        '{"u": {"loanwords": [["a", "b", "c"]]}}',
        '{"u": {"loanwords": ["ab"]}}',
        '{"u": {"text_normalized": ["x"]}}',
        '{"u": {"transliterations": 5}}',
    ],
)
def test_labels_of_another_shape_are_refused(labels: str, manifests: dict[str, str], tmp_path: Path):
    whole = Path(manifests["ko-en"])
    (tmp_path / "train.jsonl").write_text(
        whole.read_text(encoding="utf-8").replace('filepath": "', f'filepath": "{whole.parent}/'), encoding="utf-8"
    )
    (tmp_path / "train.labels.json").write_text(labels)
    with pytest.raises(UserError, match=r"train\.labels\.json: "):
        read_sets({"ko-en": str(tmp_path / "train.jsonl")})


@pytest.mark.parametrize("scores", ["[]", "[" * 100_000, '{"seen": 5}', '{"unseen": [1]}', '{"seen": {"a": 1}}'])
def test_scores_of_another_shape_are_refused_in_comparing(scores: str, tmp_path: Path):
    (tmp_path / "scores.json").write_text(scores)
    with pytest.raises(UserError, match=r"scores\.json"):
        _averaged(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"models": []},
        {"models": {"m": 5}},
        {"models": {"m": {"identity": ["x"]}}},
        {"figures": {"mer": {"value": "12"}}},
        {"figures": {}},
        {"utterances": "six"},
        {"test": {}},
    ],
)
def test_scores_of_another_shape_are_refused_for_a_card(changed: dict[str, Any], tmp_path: Path, monkeypatch):
    monkeypatch.setattr("backbone.model_folder.hub.Candidate", lambda *_: type("C", (), {"identity": "i"}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# m\n")
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    found = {"figures": {"mer": interval, "tolerant": interval}, "utterances": 6}
    found |= {name: value for name, value in changed.items() if name in found}
    scores = {"profile": "cjk", "models": {"m": {"identity": "i", "sets": {"ko-en": found}}}}
    scores |= {"test": {"ko-en": {"manifest": "data/ko-en/test.jsonl"}}}
    (tmp_path / "scores.json").write_text(json.dumps(scores | {k: v for k, v in changed.items() if k not in found}))
    with pytest.raises(UserError, match=r"scores\.json: "):
        add_scores(tmp_path, tmp_path / "scores.json")
    assert (tmp_path / "README.md").read_text() == "---\nlicense: mit\n---\n# m\n"


# Configurations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, None, ["a"], {"a": 1}])
@pytest.mark.parametrize("name", ["output_root", "name"])
def test_text_is_text(name: str, value: Any, tmp_path: Path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({name: value}))
    with pytest.raises(UserError, match=rf"c\.yaml: {name} is .*, expected text"):
        parse(train_command(), ["--config", str(tmp_path / "c.yaml")])


# Resuming ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_run_is_told_by_what_differs():
    module = WhisperModule(frozen=["encoder"])
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    module.on_load_checkpoint(kept)
    for name, value in (("algorithm", "Fishr"), ("frozen", [])):
        with pytest.raises(UserError, match=f"of a run with model.{name} "):
            module.on_load_checkpoint(kept | {name: value})
    module.on_load_checkpoint({"unusable_steps": [], "adapters": False})  # one from before they were kept


def test_what_goes_wrong_in_restoring_is_one_message(tmp_path: Path):
    file = tmp_path / "checkpoint_connector.py"
    file.write_text("def restore_loops():\n    raise KeyError('loops')\n\ndef dump():\n    raise KeyError('x')\n")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102 (stands for Lightning's file of this name)
    message = r"a\.ckpt: does not fit this run \(KeyError: 'loops'\)"
    with pytest.raises(UserError, match=message), readable_restoring(Path("a.ckpt")):
        names["restore_loops"]()
    for checkpoint, name in ((None, "restore_loops"), (Path("a.ckpt"), "dump")):  # a fault of the program stays one
        with pytest.raises(KeyError), readable_restoring(checkpoint):
            names[name]()


def test_a_worker_that_was_ended_is_one_message():
    def ended() -> None:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        finally:
            raise AssertionError("can only test a child process")  # what torch makes of it

    message = r"ended from outside \(DataLoader worker .* killed by signal: Killed"
    with pytest.raises(UserError, match=message), readable_worker_errors():
        ended()
    with pytest.raises(RuntimeError, match="another"), readable_worker_errors():
        raise RuntimeError("another")


# The last line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "error: KeyError, which was not foreseen: 'x'; --debug shows more"),
        (ValueError("embedded null byte"), "error: a path has a NUL character"),
        (MemoryError(), "error: there is not enough memory (MemoryError)"),
        (
            RuntimeError("CUDA out of memory. Tried\nto"),
            "error: there is not enough memory (CUDA out of memory. Tried)",
        ),
        (
            UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"),
            "error: 'a\\udcff': a name that is not",
        ),
    ],
)
def test_an_error_that_nobody_worded_is_one_line(error: Exception, message: str, capsys, monkeypatch):
    monkeypatch.delenv("CROSSPAIR_DEBUG", raising=False)

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.replace(" in tests/test_unreadable.py:", "@").split("@")[0].startswith(message.split(",")[0])
    monkeypatch.setenv("CROSSPAIR_DEBUG", "1")
    with pytest.raises(type(error)):
        run_script(main)


@pytest.mark.parametrize(
    ("error", "line"),
    [(EOFError(), "EOFError"), (RuntimeError("\n the reason\nmore"), "the reason"), (ValueError("x" * 301), "x" * 300)],
)
def test_of_an_errors_message_the_first_line_is_quoted(error: Exception, line: str):
    assert first_line(error) == line


def test_no_library_reports_its_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with pytest.raises(SystemExit):
        run_script(lambda: 0)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_word_that_is_not_utf_8_is_one_line(tmp_path: Path):
    name = os.fsencode(tmp_path) + b"/\xff.jsonl"
    given = [sys.executable, "prepare.py", "check", name]
    found = subprocess.run(given, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert found.returncode == 2 and found.stderr.count("\n") == 1 and "Traceback" not in found.stderr


def test_a_full_disk_is_named_with_the_sound_that_it_lacks_room_for(tmp_path: Path):
    import numpy as np

    with pytest.raises(UserError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        write_sound(Path("/dev/full"), np.zeros(16_000, dtype=np.float32))

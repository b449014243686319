"""Files that never end, values that nobody means, forged checkpoints: refused at once, each in one message."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backbone.model_folder.read import read
from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path
from common.errors import UserError
from tests.faults.children import end_of, start
from tests.faults.conftest import Tally
from tests.faults.test_disks import problem
from tests.faults.test_killed_training import arguments
from tests.test_absurd_numbers import CONFIG, EXTRACTOR, GENERATION, PARTS
from tests.test_input_files import ODD_JSON, READERS, device, loop, of_socket, pipe

pytestmark = pytest.mark.slow
FILES = {"config.json": CONFIG, "generation_config.json": GENERATION, "preprocessor_config.json": EXTRACTOR}


def refused(name: str, read: Callable[[], Any], tally: Tally) -> None:
    """One fault: refused within two minutes (a loaded machine needs some), in one message."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    try:
        read()
    except UserError as error:
        tally.judge("unreadable error", None if 0 < len(str(error)) < 1500 else repr(error))
    except TimeoutError:
        tally.failed("hung", name)
    except Exception as error:
        tally.failed("unreadable error", f"{name}: {type(error).__name__}: {str(error)[:200]}")
    else:
        tally.failed("unreadable error", f"{name}: not refused")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_files_that_never_end(tmp_path: Path, tally: Tally):
    for name, read_one in READERS.items():
        for make in (pipe, device, of_socket, loop):
            folder = tmp_path / make.__name__ / name
            folder.mkdir(parents=True)
            make(folder / name)
            refused(f"{name} is a {make.__name__}", lambda f=folder / name, r=read_one: r(f), tally)


def test_values_that_nobody_means(tiny_model: Path, tmp_path: Path, tally: Tally):
    """In each JSON file of a model folder, and the files themselves null, lists, deep and of huge numbers."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    changes = {name: [{key: value} for key, value in values.items()] for name, values in FILES.items()}
    changes["tokenizer.json"] = [{part: value} for part, value in PARTS.items()]
    for name, all_changes in changes.items():
        whole = (folder / name).read_text(encoding="utf-8")
        for change in all_changes:
            (folder / name).write_text(json.dumps(json.loads(whole) | change), encoding="utf-8")
            refused(f"{name}: {change}", lambda: read(folder), tally)
        for what, content in ODD_JSON.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            refused(f"{name} is {what}", lambda: read(folder), tally)
        (folder / name).write_text(whole, encoding="utf-8")
    read(folder)


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda kept: [kept],
    "no weights": lambda kept: {name: part for name, part in kept.items() if name != "state_dict"},
    "odd loops": lambda kept: kept | {"loops": 5},
    "an ancient version": lambda kept: kept | {"pytorch-lightning_version": "0.0.1"},
    "other shapes": lambda kept: kept | {"state_dict": {name: torch.zeros(1) for name in kept["state_dict"]}},
    "other names": lambda kept: kept | {"state_dict": {f"x{name}": v for name, v in kept["state_dict"].items()}},
    "another optimizer": lambda kept: kept | {"optimizer_states": [{"a": 1}]},
    "another algorithm": lambda kept: kept | {"algorithm": "Fishr"},
    "odd callbacks": lambda kept: kept | {"callbacks": dict.fromkeys(kept["callbacks"], 7)},
}


def test_forged_checkpoints(recipe: Path, tmp_path: Path, tally: Tally):
    run, log = tmp_path / "run", tmp_path / "log"
    short = [*arguments(recipe, run, "erm"), "--trainer.max_steps", "2"]
    assert end_of(start("train", short, log)) == 0, log.read_text()
    files = CheckpointFiles()
    kept = files.load_checkpoint(checkpoint_path(run, 2))
    other = [word for word in arguments(recipe, tmp_path / "other", "erm") if word != "--resume"]
    other += ["--trainer.max_steps", "3"]
    for name, forge in FORGED.items():
        files.save_checkpoint(forge(dict(kept)), tmp_path / "forged.ckpt")
        code = end_of(start("train", [*other, "--ckpt_path", str(tmp_path / "forged.ckpt")], log))
        found = problem(code, log, "the checkpoint is of a run" if name == "another algorithm" else "does not fit")
        tally.judge("unreadable error", found and f"{name}: {found}")

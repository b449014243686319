"""Every command of the documentation runs, page by page, in a small world of tiny corpora and models."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from tests.docs_commands import ROOT, Command, commands_of, pages, saved_files
from tests.docs_exceptions import reason_not_to_run
from tests.docs_world import build, run

EXTRAS = {"faster-whisper": "faster_whisper", "demo": "espeakng_loader", "lora": "peft", "completion": "shtab"}


def to_run() -> dict[Path, list[Command]]:
    """What is run, by page; a line that several pages have, on the first of them."""
    found: dict[Path, list[Command]] = {}
    known: set[tuple[str, ...]] = set()
    for page in pages():
        for command in commands_of(page):
            if command.words not in known and not reason_not_to_run(command):
                known.add(command.words)
                found.setdefault(page, []).append(command)
    return found


TO_RUN = to_run()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world before anybody has done anything in it."""
    world = tmp_path_factory.mktemp("world") / "pristine"
    world.mkdir()
    build(world)
    return world


@pytest.mark.slow
@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_runs(page: Path, pristine: Path, tmp_path: Path, capfd):
    world = tmp_path / "world"
    shutil.copytree(pristine, world, symlinks=True)
    for name, body in saved_files(page).items():
        (world / name).write_text(body, encoding="utf-8")
    failed = []
    for command in TO_RUN[page]:
        code, said = run(command, world)
        out = capfd.readouterr()
        said = f"{said}{out.out[-2000:]}{out.err[-2000:]}"
        if code and not _lacks_an_extra(said):
            failed.append(f"{command}: exit {code}\n{said}")
    assert not failed, "\n\n".join(failed)


def _lacks_an_extra(said: str) -> bool:
    named = re.search(r"pip install '[\w.]+\[([\w-]+)\]'", said)
    return named is not None and importlib.util.find_spec(EXTRAS.get(named[1], named[1])) is None

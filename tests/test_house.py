"""The rules of the house: who may import whom, what `--help` may cost, and that every module imports."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("analysis", "callbacks", "common", "datamodules", "lightning_modules", "merging", "scoring", "study")
SCRIPTS = [
    path for path in sorted(ROOT.glob("*.py")) if path.stem in ("prepare", "train", "merge", "evaluate", "analyze")
]
ALONE = ("lightning_modules/algorithms", "merging", "scoring", "analysis", "datamodules")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", ALONE)
def test_rooms_stand_alone(room: str):
    own = room.replace("/", ".")
    for path in sorted((ROOT / room).rglob("*.py")):
        for name in imported(path):
            foreign = name.split(".")[0] in ROOMS and not name.startswith((own, "common"))
            parents = own.startswith(name)  # `from lightning_modules import algorithms` inside algorithms
            assert not foreign or parents, f"{path.relative_to(ROOT)} imports {name}"


def test_algorithms_are_pure_torch():
    for path in sorted((ROOT / "lightning_modules/algorithms").glob("*.py")):
        assert not {name for name in imported(path) if name.split(".")[0] in ("lightning", "transformers")}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_imports(path: Path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] != "__main__":
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_imports_nothing_heavy(script: Path):
    code = (
        f"import sys, runpy; sys.argv = [{str(script)!r}, '--help']\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print('HEAVY', sorted({'torch', 'lightning', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert "HEAVY []" in found.stdout
    assert script.name in found.stdout  # the examples name the script

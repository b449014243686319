"""The rules of the house: who may import whom, what `--help` may cost, and that every module imports."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up: a room imports from its own and from lower floors, never from above or from beside it.
FLOORS = (
    ("common",),
    ("backbone",),
    ("datamodules", "decoding", "scoring", "merging", "analysis"),
    ("lightning_modules",),
    ("callbacks",),
    ("corpora", "training", "evaluation"),
    ("workflow",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = tuple(FLOOR)
SCRIPTS = [
    path for path in sorted(ROOT.glob("*.py")) if path.stem in ("prepare", "train", "merge", "evaluate", "analyze")
]
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_is_on_a_floor():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path):
    room = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        other = name.split(".")[0]
        assert other == room or FLOOR.get(other, -1) < FLOOR[room], f"{path.relative_to(ROOT)} imports {name}"


def python_files() -> list[Path]:
    return [
        *ROOT.glob("*.py"),
        *(path for top in (*ROOMS, "tests", "benchmarks", "docs") for path in (ROOT / top).rglob("*.py")),
    ]


def test_no_two_files_share_a_name():
    counts = Counter(path.name for path in python_files() if path.stem not in ("__init__", "__main__", "conftest"))
    assert not [name for name, count in counts.items() if count > 1]


def test_no_two_classes_share_a_name():
    counts = Counter(
        node.name
        for path in python_files()
        if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in counts.items() if count > 1]


def public_functions(path: Path) -> list[tuple[str, int, str]]:
    """Names, numbers of parameters and docstrings; a class's docstring counts for its constructor, too."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]
    for owner in owners:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and (node.name[0] != "_" or node.name == "__init__"):
                of = node.args
                names = [one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg) if one]
                text = ast.get_docstring(node) or ""
                text += (ast.get_docstring(owner) or "") if node.name == "__init__" else ""
                found.append((node.name, len([name for name in names if name not in ("self", "cls")]), text))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_most_public_functions_describe_three_parameters_or_more(room: str):
    functions = [one for path in FILES if path.relative_to(ROOT).parts[0] == room for one in public_functions(path)]
    described = ["Args:" in text for _, parameters, text in functions if parameters >= 3]
    assert sum(described) >= 0.8 * len(described), (
        f"{sum(described)} of {len(described)} in {room} have an Args section"
    )


def test_one_module_parses_options():
    parsers = {"argparse", "jsonargparse"}
    found = {
        str(path.relative_to(ROOT))
        for path in (*FILES, *SCRIPTS)
        if parsers & {name.split(".")[0] for name in imported(path)}
    }
    assert found == {"common/options.py"}


def test_one_module_prints():
    """What prints by another way could let a file's content act on the terminal."""
    ways = re.compile(r"(?<![\w.])print\(|\(print\b|tqdm\.write|\bConsole\(|std(out|err)\.write|warnings\.warn")
    found = {path.relative_to(ROOT).as_posix() for path in FILES if ways.search(path.read_text(encoding="utf-8"))}
    assert found == {"common/printing.py"}


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
    assert "HEAVY []" in found.stdout or script.name == "train.py"  # whose options are those of Lightning's classes
    assert script.name in found.stdout  # the examples name the script

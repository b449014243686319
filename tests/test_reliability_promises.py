"""docs/reliability.md promises nothing without a test, and every test of reliability keeps a promise of it.

The tests that docs/transcribe.md names are there, too.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE, TRANSCRIBING = (
    (TESTS.parent / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("reliability", "transcribe")
)
PROMISES = [line for line in (PAGE + TRANSCRIBING).splitlines() if line.startswith("| ") and "::" in line]


def named(text: str) -> set[str]:
    return set(re.findall(r"`([\w/]+\.py::test_\w+)`", text))


def found_in(file: Path) -> set[str]:
    functions = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return {f"{file.relative_to(TESTS)}::{node.name}" for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda line: line[2:50])
def test_each_promise_is_kept_by_tests_that_are_there(promise: str):
    names = named(promise)
    assert names and promise.count("::") == len(names)
    assert names <= set().union(*(found_in(TESTS / name.split("::")[0]) for name in names))


def test_no_fault_is_put_in_without_a_promise():
    """Fuzzing and what a promise is made of aside."""
    put_in = set().union(*(found_in(file) for file in (TESTS / "faults").glob("test_*.py") if "fuzz" not in file.name))
    assert put_in - named(PAGE) == set()

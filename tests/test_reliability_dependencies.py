"""Everything the project needs is pinned, by version and by the hash of each file; dangerous calls are refused."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pinned() -> dict[str, tuple[str, int]]:
    """Version and number of hashes by distribution."""
    found = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / "constraints.txt").read_text(encoding="utf-8")):
        if name := re.match(r"([a-z0-9._-]+)(?:\[[\w,-]+\])?==([^\s;]+)", entry):
            found[canonicalize_name(name[1])] = (name[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def required() -> list[Requirement]:
    """All requirements of setup.cfg, those of the extras, too."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_requirement_is_pinned_within_its_bounds_and_hashed():
    pins = pinned()
    assert len(pins) > 100
    for requirement in required():
        number, _ = pins[canonicalize_name(requirement.name)]
        assert number in requirement.specifier, f"{requirement}: constraints.txt has {number}"
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []


def test_no_malicious_release_is_allowed():
    """lightning 2.6.2 and 2.6.3 were uploaded by thieves of its publishing token."""
    lightning = next(requirement for requirement in required() if requirement.name == "lightning")
    assert not any(number in lightning.specifier for number in ("2.6.2", "2.6.3"))


PLANTED = {
    "S301": "pickle.load(stream)",
    "S506": "yaml.load(stream, yaml.Loader)",
    "S602": 'subprocess.run(f"ls {stream}", shell=True)',
    "S102": "exec(stream)",
    "S307": "eval(stream)",
    "S202": "tarfile.open(stream).extractall()",
    "S310": "urllib.request.urlopen(stream)",
    "S101": "assert stream",
}


@pytest.mark.parametrize("folder", [".", "callbacks", "corpora/readers", "lightning_modules", "merging", "scoring"])
def test_the_linter_refuses_what_runs_or_trusts_a_file(folder: str):
    code = "\n".join(["import pickle, subprocess, tarfile, urllib.request, yaml", *PLANTED.values(), ""])
    given = [sys.executable, "-m", "ruff", "check", "--output-format", "json"]
    where = ["--stdin-filename", str(ROOT / folder / "planted.py"), "-"]
    found = subprocess.run([*given, *where], input=code, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 1, found.stderr
    refused = {(row["code"], row["location"]["row"]) for row in json.loads(found.stdout)}
    assert {(rule, line) for line, rule in enumerate(PLANTED, start=2)} <= refused

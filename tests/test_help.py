"""Help that a person can read, completion in the shell, tracebacks where asked for, and no colours in pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.completion import SCRIPTS, script
from common.configs import CONFIGS
from common.errors import UserError
from training.cli import TrainCLI
from training.train_arguments import parser

ROOT = Path(__file__).parent.parent


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_grouped_fits_and_ends_with_examples(name: str):
    found = run(name, "--help", COLUMNS="100")
    assert found.returncode == 0, found.stderr
    head, _, examples = found.stdout.partition("examples:")
    assert f"python {name} " in examples
    assert "--debug" in head and "--print-completion" in head
    own = [line for line in head.splitlines() if "{" not in line]
    assert max(len(line) for line in own) <= 120
    assert "\x1b" not in found.stdout


def test_training_shows_no_option_that_it_does_not_take(monkeypatch: pytest.MonkeyPatch):
    """The help is read from the classes' source; jsonargparse, which parses, is the oracle."""
    known: list[str] = []
    monkeypatch.setattr(TrainCLI, "parse_arguments", lambda self, parser, args: known.extend(parser.options))
    with pytest.raises(AttributeError):  # nothing was parsed
        TrainCLI([])
    shown = {action.dest for action in parser()._actions} - {"help", "help_all", "debug", "print_completion"}
    # jsonargparse takes the options of an option's class only once the class is chosen.
    assert {name for name in shown if not name.startswith("model.lora.")} <= set(known)
    ours = ("model.", "data.", "development.", "checkpoint.", "dashboard.", "pair_gradients.")
    nested = ("model.algorithm.", "model.lora.", "model.spec_augment.", "data.splice.")
    missing = {name for name in known if name.startswith(ours) and not name.startswith(nested)} - shown
    assert missing <= {"model.seed", "data.seed"}


def test_defaults_are_those_of_the_recipes():
    text = re.sub(r"\s", "", parser().format_help())  # lines also break behind a hyphen
    for expected in (
        "--model.warmup_fraction float share of the steps in which the rate climbs linearly;",
        "--model.learning_rate float AdamW's peak, reached after the warm-up (default: 1.0e-05)",
        "--model.backbone str model folder or Hub id (default: openai/whisper-medium)",
        "--trainer.max_steps int training steps (default: 195)",
    ):
        assert expected.replace(" ", "") in text
    assert all(path.name in text for path in CONFIGS.glob("[rpo]*/*.yaml"))


def test_every_option_says_what_it_is():
    for action in parser()._actions:
        assert action.help and len(action.help) > 8, action.option_strings


def test_completion_knows_the_options_also_behind_python(tmp_path: Path):
    pytest.importorskip("shtab")
    (tmp_path / "complete.sh").write_text(script())

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        asked = f"""
source {tmp_path}/complete.sh
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}; COMPREPLY=()
$(complete -p {words[0]} | sed -E 's/.*-F ([^ ]+).*/\\1/') {words[0]} '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        found = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, cwd=ROOT)  # noqa: S607
        return found.stdout.split()

    assert complete("python evaluate.py --bea") == ["--beams"]
    assert complete("python train.py --model.lor")[:1] == ["--model.lora"]
    assert "ties" in complete("python merge.py ti")
    assert complete("python setup.c") == ["setup.cfg"]  # all else as before


def test_without_shtab_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(UserError, match=r"completion needs shtab .*pip install -e '\.\[completion\]'"):
        parser().parse_args(["--print-completion", "bash"])


def test_a_mistake_is_one_line_and_a_traceback_where_asked_for():
    plain = run("analyze.py", "--config", "nowhere")
    assert plain.returncode == 2 and "Traceback" not in plain.stderr
    assert plain.stderr.startswith("error: --config nowhere: no such file") and "\x1b" not in plain.stderr
    shown = run("analyze.py", "--config", "nowhere", "--debug")
    assert "Traceback" in shown.stderr and "UserError" in shown.stderr

"""Help that a person can read, completion in the shell, tracebacks where asked for, and no colours in pipes."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import docstring_parser
import pytest
from lightning import Trainer

from analyze import ANALYZE
from backbone.lora import LoRA
from common.completion import SCRIPTS, script
from common.configs import CONFIGS, RECIPES
from common.errors import UserError
from common.options import Command, build, options_of, parse
from datamodules.augment import SpecAugment
from datamodules.splicing.splice_options import Splicing
from evaluate import EVALUATE
from lightning_modules import algorithms
from prepare import PREPARE
from training.train_options import CLASSES, SHOWN_OF_TRAINER, RunOptions, command

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


def training_help(capsys: pytest.CaptureFixture[str], flag: str = "--help") -> str:
    with pytest.raises(SystemExit):
        parse(command(), [flag])
    return re.sub(r"\s", "", capsys.readouterr().out)  # lines also break behind a hyphen


def test_training_shows_the_options_of_its_classes(capsys: pytest.CaptureFixture[str]):
    text = training_help(capsys)
    for prefix, kind in CLASSES.items():
        for name in inspect.signature(kind).parameters:
            assert (f"--{prefix}.{name}" in text) == (name != "seed")
    for name in inspect.signature(Trainer).parameters:
        assert (f"--trainer.{name}" in text) == (name in SHOWN_OF_TRAINER)
    for nested in ("--model.lora.rank", "--model.spec_augment.time_masks", "--data.splice.share"):
        assert nested in text


def test_every_training_option_says_what_it_is():
    explained = {action.dest: action.help for action in build(command())._actions}
    names = [f"{prefix}.{name}" for prefix, kind in CLASSES.items() for name in inspect.signature(kind).parameters]
    names += [f"trainer.{name}" for name in SHOWN_OF_TRAINER] + [one.name for one in options_of(RunOptions)]
    values = [("model.lora", LoRA), ("model.spec_augment", SpecAugment), ("data.splice", Splicing)]
    explained |= {f"{prefix}.{one.name}": one.text for prefix, kind in values for one in options_of(kind)}
    names += [f"{prefix}.{name}" for prefix, kind in values for name in inspect.signature(kind).parameters]
    for name, kind in algorithms.named():
        texts = {found.arg_name: found.description for found in docstring_parser.parse(kind.__doc__ or "").params}
        explained |= {f"{name}.{one}": text for several, text in texts.items() for one in several.split(", ")}
        names += [
            f"{name}.{one.name}"
            for one in inspect.signature(kind).parameters.values()
            if one.kind != one.VAR_POSITIONAL and one.kind != one.VAR_KEYWORD
        ]
    assert len(names) > 80
    for name in set(names) - {"model.seed", "data.seed"}:  # those follow seed_everything
        assert len(explained[name].partition(" (default")[0]) > 8, name


def test_defaults_are_those_of_the_recipes(capsys: pytest.CaptureFixture[str]):
    text = training_help(capsys)
    for expected in (
        "--model.warmup_fraction X share of the steps in which the rate climbs linearly;",
        "--model.learning_rate X AdamW's peak, reached after the warm-up (default: 1e-05)",
        "--model.backbone TEXT model folder or Hub id (default: openai/whisper-medium)",
        "(default: 195)",
    ):
        assert expected.replace(" ", "") in text
    assert all(path.stem in text for folder in RECIPES for path in (CONFIGS / folder).glob("*.yaml"))


@pytest.mark.parametrize("declared", [PREPARE, EVALUATE, ANALYZE], ids=lambda one: one.name)
def test_every_option_says_what_it_is(declared: Command):
    waiting = [declared]
    while waiting:
        one = waiting.pop()
        waiting += one.commands
        assert len(one.text) > 20
        for option in options_of(one.options) if isinstance(one.options, type) else one.options:
            assert len(option.text) > 8, f"{one.name}: {option.name}"


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
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *of: None if name == "shtab" else found(name, *of))
    monkeypatch.setattr("jsonargparse._completions.find_spec", importlib.util.find_spec)
    with pytest.raises(UserError, match=r"shtab package is required .* pip install -e '\.\[completion\]'"):
        parse(command(), ["--print-completion", "bash"])


def test_a_mistake_is_one_line_and_a_traceback_where_asked_for():
    plain = run("analyze.py", "--config", "nowhere")
    assert plain.returncode == 2 and "Traceback" not in plain.stderr
    assert plain.stderr.startswith("error: --config nowhere: no such file") and "\x1b" not in plain.stderr
    shown = run("analyze.py", "--config", "nowhere", "--debug")
    assert "Traceback" in shown.stderr and "UserError" in shown.stderr

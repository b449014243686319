"""Every command of the documentation parses: its options, configurations, files and targets exist."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyze import ANALYZE
from common import options
from common.configs import CONFIGS, find_config, read_yaml
from common.errors import UserError
from evaluate import EVALUATE
from merging.command import command as merge_command
from merging.methods import methods
from merging.recipe import recipe_of
from tests.docs_commands import ALL, ROOT, Command, blocks, pages, saved_files
from tests.docs_exceptions import NOT_RUN
from training.train_options import command
from workflow.plan import Study
from workflow.settings import merged

UNIQUE = list({command.words: command for command in ALL}.values())
SCRIPTS = {"evaluate.py": "evaluate", "merge.py": "merge", "analyze.py": "analyze"}
Recipe = Callable[[list[str]], Any]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Parses arguments of train.py; nothing is made of them."""

    train = command()
    return lambda words: options.parse(train, words).options


@pytest.fixture
def saved(tmp_path: Path, monkeypatch) -> Callable[[Command], None]:
    """Puts what a command's page says to save, and the project's configurations, where the command is run."""

    def put(command: Command) -> None:
        monkeypatch.chdir(tmp_path)
        for name, body in saved_files(ROOT / command.page).items():
            Path(name).write_text(body, encoding="utf-8")

    return put


def test_commands_are_found():
    """The first page's by hand: five steps, a workflow, the demo."""
    texts = [" ".join(command.words) for command in ALL if command.page == "README.md"]
    assert "make demo" in texts
    assert "python train.py --config fishr.yaml" in texts
    assert "python train.py --config fishr.yaml --config demo.yaml" in texts  # within a sentence
    assert "python evaluate.py outputs/fishr/model --config paper.yaml" in texts
    assert "snakemake --cores 8 --resources gpu=1 --configfile configs/study/paper.yaml" in texts
    assert len({command.page for command in ALL}) > 30


def test_a_page_s_blocks_become_whole_commands(tmp_path: Path):
    from tests import docs_commands

    page = docs_commands.ROOT / "docs/howto/wandb_sweeps.md"
    loop = next(command for command in docs_commands.commands_of(page) if "--name" in command.words)
    assert loop.words[loop.words.index("--name") + 1] == "fishr-0.01"  # joined over lines, the loop's first value
    assert loop.words[-1] == "{ko-en: data/demo/ko-en/dev.jsonl, ja-en: data/demo/ja-en/dev.jsonl}"
    tutorial = docs_commands.commands_of(docs_commands.ROOT / "docs/tutorial.md")
    assert next(command for command in tutorial if "mine.yaml" in command.words).environment == {
        "WANDB_MODE": "disabled"
    }
    merge = next(command for command in tutorial if "ties" in command.words)
    assert merge.words[-2:] == ("outputs/tutorial/mine/model", "outputs/tutorial/ko-en/model")  # joined over two lines


@pytest.mark.parametrize("command", UNIQUE, ids=str)
def test_every_command_parses(command: Command, recipe: Recipe, saved, monkeypatch):
    saved(command)
    program, *words = command.words
    if program in ("python", "python3"):
        _check_python(words, recipe, monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] in targets, f"the Makefile has no {words[0]}"
    elif program == "pip":
        _check_extras(words)
    elif program == "snakemake":
        for place in [i for i, word in enumerate(words) if word == "--configfile"]:
            Study(read_yaml(ROOT / words[place + 1]))
    elif program == "sbatch":
        assert words[0] in saved_files(ROOT / command.page), f"the page does not say what {words[0]} is"


def _check_python(words: list[str], recipe: Recipe, monkeypatch) -> None:
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
        return
    if words[:2] == ["-m", "torch.distributed.run"]:
        words = words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
    if words[0] == "train.py":
        if "--help" not in words:
            recipe(words[1:])
        return
    if words[:2] == ["-m", "pytest"]:
        named = [word for word in words[2:] if "/" in word or word in ("scoring", "callbacks")]
        assert [word for word in named if not (ROOT / word).exists()] == []
        return
    if words[:2] == ["-m", "venv"]:
        return
    if words[0].endswith(".py") and Path(words[0]).is_file():  # saved from the page
        compile(Path(words[0]).read_text(encoding="utf-8"), words[0], "exec")
        return
    if words[1:2] == ["pairs_of_files"]:  # the reader that the page lets one write
        return
    if words[0].startswith(("benchmarks/", "docs/")) and "parse_args" not in (ROOT / words[0]).read_text():
        assert words[0].startswith("docs/") or not words[1:], f"{words[0]} takes no options"
        return
    _parse(words, monkeypatch)
    if room := SCRIPTS.get(words[0]):
        for place in [
            i for i, word in enumerate(words) if word == "--config" and not words[i + 1].startswith("outputs")
        ]:
            find_config(words[place + 1], CONFIGS / room)


class Parsed(BaseException):
    """A program's arguments were understood."""


def _parse(words: list[str], monkeypatch) -> None:
    """Runs a program until it has understood its arguments."""
    depth = 0

    def stopping(inner: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            result = inner(*arguments, **options)
            depth -= 1
            if depth == 0:
                raise Parsed
            return result

        return parse

    def found(name: str, folders: Any) -> Path:
        return Path(os.devnull) if name.startswith("outputs/") else find_config(name, folders)

    monkeypatch.setattr(options, "find_config", found)  # what a run would have left counts as empty
    monkeypatch.setattr(options, "read_yaml", lambda path: read_yaml(path) if path.name != "null" else {})
    monkeypatch.setattr(options, "_result", stopping(options._result))  # reached once all words were understood
    for name in ("parse_args", "parse_known_args") if words[0].startswith(("benchmarks/", "docs/")) else ():
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
    monkeypatch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
    monkeypatch.setattr(sys, "path", [str((ROOT / words[0]).parent), *sys.path])
    try:
        if words[0] == "-m":
            for module in (words[1], f"{words[1]}.__main__"):  # as in a fresh process, where none is imported yet
                monkeypatch.delitem(sys.modules, module, raising=False)
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    except Parsed:
        return
    except SystemExit as end:
        assert not end.code and "--help" in words, f"exit {end.code}"


def _check_extras(words: list[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for word in words:
        for name in found[1].split(",") if (found := re.search(r"\[([\w,-]+)\]", word)) else []:
            assert name in setup["options.extras_require"], f"setup.cfg has no extra {name}"


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_no_exception_is_stale(pattern: str):
    assert any(re.match(pattern, " ".join(command.words)) for command in ALL), f"no page has {pattern!r} any more"


YAML = [
    pytest.param(body, id=f"{page.relative_to(ROOT)}-{i}")
    for page in pages()
    if page.suffix == ".md"
    for i, body in enumerate(blocks(page, "yaml"))
    if "class_path: Deviation" not in body  # what the page lets one write
]


@pytest.mark.parametrize("body", YAML)
def test_every_yaml_example_is_a_configuration(body: str, recipe: Recipe, tmp_path: Path, monkeypatch):
    content = yaml.safe_load(body)
    if "program" in content:
        _check_sweep(content, recipe, monkeypatch)
    elif content.keys() & {"model", "data", "trainer", "development", "checkpoint"}:
        (tmp_path / "example.yaml").write_text(body, encoding="utf-8")
        recipe(["--config", str(tmp_path / "example.yaml")])
    elif content.keys() & {"test", "models"}:
        (tmp_path / "example.yaml").write_text(body, encoding="utf-8")
        options.parse(EVALUATE, ["--config", str(tmp_path / "example.yaml")])


def _check_sweep(content: dict[str, Any], recipe: Recipe, monkeypatch) -> None:
    """A sweep's command, with a value of each parameter."""
    program = content["program"]
    words = [word.replace("${program}", program) for word in content["command"]]
    words = [word for word in words[words.index("python") + 1 :] if not word.startswith("${")]
    values = {name: of["values"][0] if "values" in of else of["min"] for name, of in content["parameters"].items()}
    _check_python([*words, *(f"--{name}={value}" for name, value in values.items())], recipe, monkeypatch)


CONFIGURATIONS = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_every_configuration_parses(path: Path, recipe: Recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    room = path.parent.name
    if room in ("configs", "recipe", "pair", "overlay"):
        recipe(["--config", path.name])
    elif room == "merge":
        method = path.stem if path.stem in methods() else "ties"
        configs = [] if method == path.stem else ["--config", path.name]
        assert recipe_of(method, options.parse(merge_command(), [method, *configs]).options).method == method
    elif room == "evaluate":
        assert options.parse(EVALUATE, ["--config", path.name]).options.test
    elif room == "analyze":
        assert options.parse(ANALYZE, ["--config", path.name]).options.models
    elif room == "study":
        whole = path.with_name(f"{path.stem.removesuffix('-dev')}.yaml")  # what an overlay is laid over
        assert Study(merged(read_yaml(whole), read_yaml(path))).runs
    elif room == "sweep":
        _check_sweep(read_yaml(path), recipe, monkeypatch)
    else:
        raise AssertionError(f"configs/{room}: this test does not know how such a configuration is read")


def test_an_unknown_option_does_not_pass(recipe: Recipe, monkeypatch):
    with pytest.raises(UserError, match="did you mean '--model.learning_rate'"):
        recipe(["--config", "erm.yaml", "--model.lerning_rate", "1"])
    with pytest.raises(AssertionError, match="exit 2"):
        _parse(["evaluate.py", "model", "--beam-width", "5"], monkeypatch)

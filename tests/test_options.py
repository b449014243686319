"""The one option module: values, configurations, mistakes, subcommands and help, on a command of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml

from common.configs import find_config
from common.errors import UserError
from common.option_types import REQUIRED, Count, Range
from common.options import Command, Option, main, option, parse, run


@dataclass(frozen=True)
class InputOptions:
    """What is read."""

    models: list[str] = option([], positional=True, metavar="MODEL")
    """Model folders."""
    test: dict[str, str] | None = None
    """Test manifests by name."""
    beside: list[str] = option([])
    """More models."""
    compare: tuple[str, str] | None = option(None, metavar="RUN", in_config=False)
    """Two runs."""


@dataclass(frozen=True)
class WorkOptions:
    """How it is done."""

    beams: Count = 1
    """Hypotheses kept."""
    lambda_: Annotated[float, Range(0, 1, above=True)] = 0.5
    """Step length."""
    window: str | Annotated[float, Range(0, above=True)] | None = None
    """Seconds, or longest."""
    method: Literal["ctc", "attention"] = "ctc"
    """How to align."""
    compile: bool = False
    """Compile it."""
    batch_size: Count = 32
    """Utterances side by side."""
    device: str | None = option(None, shown_default="cuda if there is one")
    """Where."""
    out: Path = Path("outputs/x")
    """Folder for results."""
    name: str = option("run", join="-")
    """The run's name."""


@dataclass(frozen=True)
class ToolOptions(WorkOptions, InputOptions):
    """All of it."""


TOOL = Command("tool.py", "Does it.\n\nAt length.", ToolOptions, lambda _: 3, "tool.py a b", config=("evaluate",))


@dataclass(frozen=True)
class CopyOptions:
    """What is copied."""

    source: Path = option(positional=True, metavar="FROM")
    """The file to copy."""
    target: Path = option(positional=True, metavar="TO")
    """Where to."""
    times: Count = option(metavar="N")
    """How often."""


COPY = Command("copy", "Copy a file", CopyOptions, lambda given: given.times)
TREE = Command("tree.py", "Has commands.", commands=[COPY, Command("more", "More of them.", commands=[COPY])])


def options(*words: str) -> Any:
    return parse(TOOL, words).options


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes a configuration, as YAML or as it is, and returns the words that name it."""

    def write(content: Any, name: str = "c.yaml") -> list[str]:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return ["--config", str(path)]

    return write


def test_values_of_every_kind():
    words = "a b=c --beams 3 --lambda=0.25 --window longest --compile --beside x y --compare r s --out o"
    found = options(*words.split(), "--device", "3", "--test", "{ko-en: t.jsonl}")
    assert found == ToolOptions(
        models=["a", "b=c"], beams=3, lambda_=0.25, window="longest", compile=True, beside=["x", "y"],
        compare=("r", "s"), test={"ko-en": "t.jsonl"}, out=Path("o"), device="3",
    )  # fmt: skip
    assert options() == ToolOptions()
    assert options("--batch-size", "4").batch_size == options("--batch_size", "4").batch_size == 4
    assert options("--beams", "2", "--beams", "3").beams == 3  # the last one wins
    assert options("--out", "data/1.0").out == Path("data/1.0")


def test_the_command_line_wins_over_configurations_and_later_ones_over_earlier(config: Callable[..., list[str]]):
    one = config({"beams": 2, "batch_size": 8, "lambda": 0.1, "models": ["a", "b"]}, "one.yaml")
    two = config({"beams": 3, "window": 2, "compile": True}, "two.yaml")
    found = parse(TOOL, [*one, "--lambda", "0.9", *two])
    assert (found.options.beams, found.options.batch_size, found.options.lambda_) == (3, 8, 0.9)
    assert (found.options.models, found.options.window, found.options.compile) == (["a", "b"], 2, True)
    assert found.given == {"lambda": 0.9}
    assert options(*two, *one).beams == 2
    assert options(*one, "--config=" + two[1], "c").models == ["c"]


def test_names_of_configurations_compose_in_their_order(config: Callable[..., list[str]]):
    erm, plain, splice = (
        config(content, name)
        for content, name in (({"name": "erm"}, "a.yaml"), ({"beams": 2}, "b.yaml"), ({"name": "splice"}, "c.yaml"))
    )
    assert options(*erm, *plain, *splice).name == "erm-splice"
    assert options(*splice, *erm).name == "splice-erm"
    assert options(*erm, *splice, "--name", "mine").name == "mine"
    assert options(*plain).name == "run"


def test_what_was_read_is_printed_and_a_local_path_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    tool = Command("tool.py", "Does it.", InputOptions, config=("evaluate",))
    with pytest.raises(UserError, match=r"configs/evaluate/demo\.yaml: no option 'out'"):
        parse(tool, ["--config", "demo.yaml"])
    assert "configs/evaluate/demo.yaml" in capsys.readouterr().err
    (tmp_path / "demo.yaml").write_text("models: [mine]\n")
    assert parse(tool, ["--config", "demo.yaml"]).options.models == ["mine"]
    assert capsys.readouterr().err == "config: demo.yaml\n"
    assert find_config("erm").name == find_config("erm.yaml").name == "erm.yaml"
    assert find_config("demo", "evaluate").parent.name == "evaluate"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--beems 3", r"no option '--beems', did you mean '--beams'\? See tool.py --help"),
        ("--batchsize 3", r"no option '--batchsize', did you mean '--batch-size'"),
        ("--lamda=3", r"no option '--lamda', did you mean '--lambda'"),
        ("--qqqq", r"no option '--qqqq'\. See"),
        ("--models a", "models is given without its name"),
        ("--beams x", "beams is 'x', expected a whole number of 1 or more"),
        ("--beams 1.5", "beams is '1.5', expected a whole number"),
        ("--beams 0", "beams is 0, expected a whole number of 1 or more"),
        ("--beams=-99999999999999999999999", "expected a whole number of 1 or more"),
        ("--beams true", "beams is 'true', expected a whole number"),
        ("--beams " + "9" * 5000, "beams is '999.*expected a whole number"),
        ("--beams", "beams: expected one argument"),
        ("--lambda 0", r"lambda is 0\.0, expected a number in \(0, 1\]"),
        ("--lambda nan", r"lambda is 'nan', expected a number in \(0, 1\]"),
        ("--lambda .nan", r"lambda is nan, expected a number in \(0, 1\]"),
        ("--lambda .inf", r"lambda is inf, expected a number"),
        ("--lambda 1e999", r"lambda is .*, expected a number"),
        ("--method cct", "method is 'cct', expected one of ctc, attention, did you mean 'ctc'"),
        ("--compare a", "compare: expected 2 arguments"),
        ("--compile=3", "compile: ignored explicit argument"),
        ("--test 3", "test is '3', expected a mapping of text to text"),
        ("--test [a", "test is .*, expected a mapping"),
        ("-x", "unrecognized arguments: -x"),
        ("--config", "--config takes a configuration's name or path"),
        ("--config nowhere", r"--config nowhere: no such file, here or in configs/evaluate/.* There are: demo"),
        ("--config demmo", r"no such file, .*did you mean 'demo.yaml'"),
        ("--print-completion nosh", "--print-completion nosh: Unsupported completion_type"),
    ],
)
def test_mistakes_on_the_command_line(words: str, message: str):
    with pytest.raises(UserError, match=message):
        parse(TOOL, words.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"beems": 3}, "no option 'beems', did you mean 'beams'"),
        ({3: 3}, "no option '3'"),
        ({"batch-size": 3}, "no option 'batch-size', did you mean 'batch_size'"),
        ({"compare": ["a", "b"]}, "compare is given on the command line, not in a configuration"),
        ({"beams": 0}, "beams is 0, expected a whole number of 1 or more"),
        ({"beams": True}, "beams is True, expected a whole number"),
        ({"beams": None}, "beams is null, expected a whole number"),
        ({"beams": [1]}, r"beams is \[1\], expected a whole number"),
        ({"compile": "yes"}, "compile is 'yes', expected true or false"),
        ({"models": "a"}, "models is 'a', expected a list of text"),
        ({"models": [3]}, r"models is \[3\], expected a list of text"),
        ({"test": {"a": 3}}, r"test is \{'a': 3\}, expected a mapping of text to text"),
        ({"test": ["a"]}, r"test is \['a'\], expected a mapping"),
        ({"device": False}, "device is False, expected text"),
        ({"lambda": 7}, r"lambda is 7\.0, expected a number in \(0, 1\]"),
        ("lambda: .nan\n", "lambda is nan"),
        ("beams: 1e999\n", "beams is .*, expected a whole number"),
        ("null\n", "expected a mapping of options, found NoneType"),
        ("", "expected a mapping of options, found NoneType"),
        ("- a\n", "expected a mapping of options, found list"),
        ("text\n", "expected a mapping of options, found str"),
        ("beams: " + "[" * 9000, "not YAML"),
        ("a: " + "{a: " * 4000 + "}" * 4000, "not YAML: its values are nested too deep"),
        ("beams: " + "9" * 9000, "not YAML: .*digits"),
        ("beams: 1\nbatch_size: 2\nbeams: 3\n", "not YAML: the key 'beams' stands twice"),
        ("test: {a: b, a: c}\n", "not YAML: the key 'a' stands twice"),
        ("beams: !!python/name:os.system\n", "not YAML: could not determine a constructor"),
        ("beams: 2001-99-99\n", "beams is '2001-99-99', expected a whole number"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"beams: \x00", "not YAML"),
    ],
)
def test_mistakes_in_a_configuration_name_the_file(content: Any, message: str, config: Callable[..., list[str]]):
    with pytest.raises(UserError, match=rf"c\.yaml: {message}"):
        parse(TOOL, config(content))


def test_a_configuration_must_be_a_file(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        parse(TOOL, ["--config", str(tmp_path)])


def test_subcommands_positionals_and_what_is_required():
    assert parse(TREE, ["copy", "a", "b", "--times", "2"]).options == CopyOptions(Path("a"), Path("b"), 2)
    assert run(TREE, ["more", "copy", "--times", "2", "a", "b"]) == 2
    assert run(TOOL, []) == 3
    for words, message in (
        (["cpy"], r"tree\.py: expected a command, found cpy, did you mean 'copy'.; there are: copy, more"),
        ([], "expected a command, found nothing; there are: copy, more"),
        (["--times", "3"], "expected a command, found --times"),
        (["more"], "expected a command, found nothing; there are: copy"),
        (["copy", "a", "--times", "2"], r"TO is missing: Where to; see tree\.py copy --help"),
        (["copy", "a", "b"], "--times is missing: How often"),
        (["copy", "a", "b", "c", "--times", "1"], "unrecognized arguments: c"),
        (["copy", "--config", "x"], "no option '--config'"),  # it reads none
    ):
        with pytest.raises(UserError, match=message):
            parse(TREE, words)


def test_single_options_make_a_dictionary_and_any_takes_words_as_they_are(config: Callable[..., list[str]]):
    density = Option("density", Any, 0.2, "Share of entries that are kept.", "parameters of ties")
    command = Command("ties", "Merges.", [density, Option("seed", int, REQUIRED, "Of the draws.")], config=("merge",))
    assert parse(command, ["--seed", "1"]).options == {"density": 0.2, "seed": 1}
    words = ["--seed", "1", "--density", "encoder=0", "0,1"]
    assert parse(command, words).options == {"density": ["encoder=0", "0,1"], "seed": 1}
    assert parse(command, ["--seed", "1", *config({"density": {"encoder": 0}})]).options["density"] == {"encoder": 0}


@pytest.mark.parametrize("columns", [80, 120])
def test_help_is_grouped_fits_and_says_defaults(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as end:
        parse(TOOL, ["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and max(map(len, text.splitlines())) <= columns
    groups = ["Does it.", "What is read:", "How it is done:", "this program:", "examples:"]
    assert [text.index(group) for group in groups] == sorted(text.index(group) for group in groups)
    for line in ("--beams N", "(default: 32)", "--method {ctc,attention}", "--batch-size N", "--compare RUN RUN"):
        assert line in text
    assert "cuda if there is one" in " ".join(text.split()) and "examples:\n  tool.py a b" in text
    with pytest.raises(SystemExit):
        parse(TREE, ["--help"])
    assert "Copy a file" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse(TREE, ["more", "copy", "--help"])
    assert "How often (required)" in capsys.readouterr().out


def test_a_command_exits_with_its_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for words, code in (([], 3), (["--beams", "x"], 2)):
        monkeypatch.setattr("sys.argv", ["tool.py", *words])
        with pytest.raises(SystemExit) as end:
            main(TOOL)
        assert end.value.code == code
    assert capsys.readouterr().err.startswith("error: beams is 'x', expected")

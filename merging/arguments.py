"""The command line of `merge.py`, made from the methods' own declarations; imports nothing heavy."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from common.options import Help, finish
from merging.methods import Method, methods
from merging.parameters import parse
from merging.recipe import ENGINES, compose
from merging.tensors import DTYPES

_SWEPT = ("lambda", "density")
_MARKS = """[model]: one number for all models or one for each, as in 1 0.5 1.
[module]: may follow the layers' depth, as in 1,0.5, or be set by module, as
          in encoder=1 decoder=1,0.5 embeddings=0 norms=1."""


def parser() -> argparse.ArgumentParser:
    """Builds the parser: a command a method, and `sweep METHOD`."""
    top = argparse.ArgumentParser(
        prog="merge.py",
        description="Merges fine-tunes of one Whisper into one model, without training.",
        epilog="""`python merge.py METHOD --help` explains a method and its parameters.

examples:
  python merge.py ties --subsets all
  python merge.py task_arithmetic --lambda 0.4 --models outputs/ko-en/model outputs/de-en/model --base openai/whisper-medium
  python merge.py sweep ties --config demo.yaml --lambda 0.2:1.2:0.1 --density 0.2,0.5
""",  # noqa: E501
        formatter_class=Help,
    )
    commands = top.add_subparsers(dest="method", required=True, metavar="METHOD")
    for method in methods().values():
        command = _add(commands, method)
        _add_shared(command, "outputs/merges/METHOD-MODEL+MODEL; with --subsets all the folder of their folders")
        command.add_argument("--subsets", choices=["all"], help="merge every subset of the models")
        command.add_argument("--engine", choices=ENGINES, help=f"what merges (default: {ENGINES[0]})")
        command.add_argument("--skip-existing", action="store_true", help="leave merges alone that are up to date")
        _add_parameters(command, method)
    sweep = commands.add_parser("sweep", help="try out step lengths and densities of a method on development sets")
    swept = sweep.add_subparsers(dest="swept", required=True, metavar="METHOD")
    for method in methods().values():
        if method.returns_step:
            command = _add(swept, method)
            _add_shared(command, "outputs/merges/sweep-METHOD-MODEL+MODEL")
            _add_sweep(command, method)
            _add_parameters(command, method, without=_SWEPT)
    return finish(top)


def _add(commands: argparse._SubParsersAction, method: Method) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    return commands.add_parser(
        method.name,
        help=textwrap.shorten(method.summary, 200),
        description=f"{_filled(method.summary)}\n\n{_filled(method.formula, '  ')}\n\n{_filled(method.source)}",
        formatter_class=Help,
    )


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 79, initial_indent=indent, subsequent_indent=2 * indent)


def _add_shared(command: argparse.ArgumentParser, out: str) -> None:
    command.add_argument(
        "--config", action="append", default=[], metavar="NAME",
        help="an overlay on the method's recipe, by name in configs/merge/ or by path; repeatable, later ones win",
    )  # fmt: skip
    command.add_argument("--models", nargs="+", metavar="MODEL", help="fine-tunes: model folders or Hub ids")
    command.add_argument(
        "--base", help="what they were fine-tuned from: a model folder or Hub id; none for the first model"
    )
    command.add_argument("--out", metavar="DIR", help=f"where to write (default: {out})")
    command.add_argument(
        "--dtype", choices=["auto", *DTYPES], help="dtype of the merged weights (default: auto, the base's)"
    )


def _add_sweep(command: argparse.ArgumentParser, method: Method) -> None:
    command.add_argument(
        "--lambda", dest="step_lengths", default="0.2:1.2:0.1", metavar="VALUES",
        help="step lengths, as FIRST:LAST:STEP or 0.2,0.5,1 (default: 0.2:1.2:0.1)",
    )  # fmt: skip
    if "density" in method.parameters:
        command.add_argument(
            "--density", dest="densities", metavar="VALUES", help="densities, likewise (default: the recipe's)"
        )
    command.add_argument("--score", nargs="+", metavar="MANIFEST", help="development manifests of seen pairs")
    command.add_argument("--seen", nargs="+", metavar="PAIR", help="pairs fine-tuned on (default: the models' names)")
    command.add_argument("--allow-unseen", action="store_true", help="choose on unseen pairs, too; the card will tell")


def _add_parameters(command: argparse.ArgumentParser, method: Method, without: tuple[str, ...] = ()) -> None:
    shown = [parameter for parameter in method.parameters.values() if parameter.name not in without]
    if not shown:
        return
    is_number = [parameter.kind is float and parameter.by_module for parameter in shown]
    group = command.add_argument_group(f"parameters of {method.name}", _MARKS if any(is_number) else None)
    defaults = compose(method.name, [], {})
    for parameter, may_differ in zip(shown, is_number, strict=True):
        default = str(defaults.get(parameter.name, parameter.default))
        text = f"{parameter.help}; {parameter.range} (default: {default.lower()})" + " [model]" * parameter.per_model
        if may_differ:
            value: dict[str, str] = {"metavar": "VALUE", "nargs": "+", "help": f"{text} [module]"}
        else:
            choices = ("true", "false") if parameter.kind is bool else parameter.kind
            value = {"metavar": f"{{{','.join(choices)}}}" if isinstance(choices, tuple) else "N", "help": text}
        group.add_argument(f"--{parameter.name}", dest=f"set_{parameter.name}", **value)  # type: ignore[arg-type]


def overrides(options: argparse.Namespace, method: str) -> dict[str, Any]:
    """The settings given on the command line; None where not given."""
    shared = ("models", "base", "subsets", "dtype", "engine", "score", "seen")
    found = {key: getattr(options, key, None) for key in shared}
    for name, parameter in methods()[method].parameters.items():
        words = getattr(options, f"set_{name}", None)
        found[name] = None if words is None else parse(parameter, [words] if isinstance(words, str) else words)
    return found

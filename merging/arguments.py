"""The command line of `merge.py`, made from the methods' own declarations; imports nothing heavy."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from merging.methods import Method, methods
from merging.parameters import parse
from merging.recipe import ENGINES
from merging.tensors import DTYPES


def parser() -> argparse.ArgumentParser:
    """Builds the parser: a command a method."""
    top = argparse.ArgumentParser(
        prog="merge.py",
        description="Merges fine-tunes of one Whisper into one model, without training.",
        epilog="`python merge.py METHOD --help` explains a method's parameters.",
    )
    commands = top.add_subparsers(dest="method", required=True, metavar="METHOD")
    for method in methods().values():
        first = method.summary.split("\n")[0]
        command = commands.add_parser(
            method.name, help=first, description=_describe(method), formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_shared(command)
        add_parameters(command, method)
    return top


def add_shared(command: argparse.ArgumentParser) -> None:
    """Adds the options that every merge has."""
    command.add_argument(
        "--config", action="append", nargs="+", default=[], metavar="NAME",
        help="overlays on the method's recipe, by name in configs/merge/ or by path; later ones win",
    )  # fmt: skip
    command.add_argument("--models", nargs="+", metavar="MODEL", help="fine-tunes: model folders or Hub ids")
    command.add_argument("--base", help="what they were fine-tuned from: a model folder or Hub id")
    command.add_argument("--subsets", choices=["all"], help="merge every subset of two models or more")
    command.add_argument(
        "--out", metavar="DIR",
        help="the merged model's folder; with --subsets all the folder of their folders "
             "(default: outputs/merges/METHOD-MODEL+MODEL)",
    )  # fmt: skip
    command.add_argument(
        "--dtype", choices=["auto", *DTYPES], help="dtype of the merged weights (default: auto, the base's)"
    )
    command.add_argument("--engine", choices=ENGINES, help=f"what merges (default: {ENGINES[0]})")
    command.add_argument(
        "--skip-existing", action="store_true", help="leave merges alone that are as the recipe and models would make"
    )


def add_parameters(command: argparse.ArgumentParser, method: Method) -> None:
    """Adds the method's own parameters, each with its meaning, range and default."""
    group = command.add_argument_group(
        f"parameters of {method.name}",
        "Marked [model]: one number for all models or one for each (1 0.5 1). Marked [module]: may follow the layers' "
        "depth (1,0.5) or be set by module (encoder=1 decoder=1,0.5 embeddings=0 norms=1).",
    )
    for parameter in method.parameters.values():
        marks = " [model]" * parameter.per_model
        marks += " [module]" * (parameter.kind is float and parameter.by_module)
        text = f"{parameter.help}; {parameter.range} (default: {_word(parameter.default)}){marks}"
        group.add_argument(
            f"--{parameter.name}",
            nargs="+",
            metavar="VALUE",
            help=text.replace("%", "%%"),
            dest=f"set_{parameter.name}",
        )


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line; None where not given."""
    found: dict[str, Any] = {
        key: getattr(arguments, key) for key in ("models", "base", "subsets", "out", "dtype", "engine")
    }
    for name, parameter in methods()[arguments.method].parameters.items():
        words = getattr(arguments, f"set_{name}")
        found[name] = None if words is None else parse(parameter, words)
    return found


def _describe(method: Method) -> str:
    return f"{textwrap.fill(method.summary, 100)}\n\n  {method.formula}\n\n{method.source}"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

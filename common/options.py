"""What the scripts' command lines have in common: help that fits a screen, completion, and the traceback."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from typing import Any

from common.errors import UserError

_SHELLS = ("bash", "zsh", "tcsh")


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they were written, options in columns as wide as the terminal allows, up to 120."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(120, shutil.get_terminal_size().columns))


def finish(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds what every script has; `run_script` itself acts on `--debug`."""
    group = parser.add_argument_group("this program")
    group.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error, not its message",
    )
    group.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        default=argparse.SUPPRESS,
        help="print what makes a shell complete this program's options; python -m common.completion does for all",
    )
    return parser


class _PrintCompletion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: str | Sequence[Any] | None, option: Any = None
    ) -> None:
        try:
            import shtab
        except ImportError as error:
            raise UserError(f"completion needs shtab ({error}): pip install 'crosspair[completion]'") from None
        print(shtab.complete(parser, str(values)))
        parser.exit(0)

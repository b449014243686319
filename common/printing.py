"""The one way to print: text that comes from files is shown, and cannot act on the reader's terminal."""

import logging
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, direction marks and other invisible ones would act on the reader's screen; half a surrogate pair
# cannot even be written.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: object, keep: str = "") -> str:
    """Return the text with every control, direction and invisible character shown as its number, e.g. ‹U+202E›.

    Args:
        text: what is shown; anything but text as `str` writes it.
        keep: characters that stay as they are.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        f"‹U+{ord(char):04X}›" if unicodedata.category(char) in _ACTING and char not in keep else char for char in text
    )


def show(*lines: object, file: TextIO | None = None) -> None:
    """Print each argument on a line of its own, above a progress bar, with nothing in it that acts on the terminal.

    Args:
        lines: what to print.
        file: where to; stdout by default.
    """
    bars = sys.modules.get("tqdm")
    with bars.tqdm.external_write_mode(file or sys.stdout) if bars else nullcontext():
        print(*(visible(line, keep="\t") for line in lines), sep="\n", file=file, flush=True)


def warn(*lines: object) -> None:
    """Print on stderr."""
    show(*lines, file=sys.stderr)


def console(stderr: bool = False) -> "Console":
    """Return rich's console for tables and bars: strings are plain text, without markup, and cannot act."""
    from rich.console import Console
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, keep="\n"), style, control)

    return VisibleConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


class _VisibleRecord(logging.LogRecord):
    def getMessage(self) -> str:
        return visible(super().getMessage(), keep="\n\t")


def guard_logs() -> None:
    """Make the log messages of libraries, which may quote files, harmless for the terminal, too."""
    logging.setLogRecordFactory(_VisibleRecord)

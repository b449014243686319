"""Errors that a user can act on: one message, no traceback."""

import difflib
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from common.printing import guard_logs, visible, warn

_ROOT = f"{Path(__file__).parent.parent}{os.sep}"
_LONGEST = 2000  # characters of a line


class UserError(Exception):
    """A mistake in what the user gave: the message says what, where, what was expected and what to do.

    Each argument is a line of the message; text that it quotes from files cannot control the terminal, begin another
    line or fill the screen.
    """

    def __str__(self) -> str:
        return "\n".join(visible(re.sub(r"\s*\n\s*", " ", _short(str(line).rstrip()))) for line in self.args)


def _short(line: str) -> str:
    """The line, without its middle if a library or a very long name made it longer than anybody reads."""
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the choice closest to `name`, or "" where none is close."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def in_range(name: str, value: float, low: float, high: float = math.inf, what: str = "") -> float:
    """Return an option's value if `low <= value <= high`.

    Args:
        name: the option's.
        value: as given.
        low: the least.
        high: the most; infinity itself is never accepted.
        what: what is expected, before the bounds.

    Raises:
        UserError: naming option, value and bounds.
    """
    if not low <= value <= high or math.isinf(value):
        bounds = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        shown = f"{value:g}" if isinstance(value, float) else value
        raise UserError(f"{name} is {shown}, expected {what}{bounds}")
    return value


def _unforeseen(error: Exception) -> str:
    """The message for an unexpected error: what it is, where it was raised, and how to see more."""
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return f"{error.object[:200]!r}: a name that is not UTF-8; rename the file or folder"
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "a path has a NUL character, which no file can have; look at the names in configurations and tables"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return f"there is not enough memory ({first_line(error)})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_ROOT)]
    where = f" in {frames[-1].filename.removeprefix(_ROOT)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}, which was not foreseen: {first_line(error)}; --debug shows more"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters of it; its class's name if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and exit: 0, its own code, 2 after a `UserError` or a full disk, 130 after Ctrl-C.

    Any other error is a bug of the program; it also ends in one message with code 2. With `--debug`, or
    `CROSSPAIR_DEBUG=1`, the traceback is shown.
    """
    if "--debug" in sys.argv[1:]:
        sys.argv.remove("--debug")
        os.environ["CROSSPAIR_DEBUG"] = "1"  # inherited by the processes that a script starts
    guard_logs()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report its use to its makers
    try:
        code = main() or 0
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (UserError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError):
            message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if message is None or os.environ.get("CROSSPAIR_DEBUG") == "1":
            raise
        warn(*f"error: {message}".split("\n"))
        code = 2
    except KeyboardInterrupt:
        warn("interrupted")
        code = 130
    except Exception as error:
        if os.environ.get("CROSSPAIR_DEBUG") == "1":
            raise
        warn(f"error: {_unforeseen(error)}")
        code = 2
    sys.exit(code)

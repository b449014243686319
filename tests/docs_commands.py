"""The shell commands of the documentation: found on every page, with the files that the pages say to save."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAMS = (
    "python", "python3", "make", "snakemake", "pip", "hf", "wandb", "tensorboard", "sbatch", "srun", "export", ".",
    "ct2-transformers-converter",
)  # fmt: skip
SHELL = ("", "bash", "sh", "shell", "console")
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n(?:\n(?= {4}))?)+", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_SAVED = re.compile(
    r"[Ss]ave (?:it|this|that)? ?as `([\w./-]+)`[^`]*?```\w*[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL
)
_HEADER = re.compile(r"^# .*?(python \w+\.py [^#`\n]*?)(?:(?: {2,}|`).*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command line as its page has it: `words` without variables before, redirections and pipes behind."""

    page: str
    line: int
    text: str
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the project, and every configuration, whose head says how it is used."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.yaml")]
    return sorted(found)


def commands_of(page: Path) -> list[Command]:
    """A page's commands in order; inline code that shows a form (`<corpus>`, `...`) is no command."""
    name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        found = [
            (head.start(1), re.sub(r"[][]", "", head[1]).replace("METHOD", "ties")) for head in _HEADER.finditer(text)
        ]
    else:
        found = list(_of_markdown(text))
    commands = []
    for place, written in sorted(found):
        if command := _command(name, text.count("\n", 0, place) + 1, written):
            commands.append(command)
    return commands


def saved_files(page: Path) -> dict[str, str]:
    """What a page tells to save under a name."""
    return {name: body for name, body in _SAVED.findall(page.read_text(encoding="utf-8"))}


def blocks(page: Path, language: str) -> list[str]:
    """A page's fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return [body for _, tag, body in _FENCE.findall(text) if tag == language]


def _of_markdown(text: str) -> Iterator[tuple[int, str]]:
    rest = text
    for fence in _FENCE.finditer(text):
        rest = rest[: fence.start()] + re.sub(r"[^\n]", " ", fence[0]) + rest[fence.end() :]
        if fence[2] in SHELL:
            yield from _lines(fence.start(3), fence[3])
    for block in _INDENTED.finditer(rest):
        yield from _lines(block.start(), block[0])
    for code in _INLINE.finditer(_INDENTED.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), rest)):
        if not re.search(r"[<…[]|\.\.\.", code[1]) and len(code[1].split()) > 1:
            yield code.start(1), code[1]


def _lines(start: int, block: str) -> Iterator[tuple[int, str]]:
    """A block's commands: lines joined where a backslash or an open quote ends them, a loop by its first value."""
    variables: dict[str, str] = {}
    place, joined = start, ""
    for line in block.splitlines(keepends=True):
        joined += line
        place += len(line)
        if joined.rstrip().endswith("\\") or not _is_whole(joined):
            continue
        if loop := re.match(r"\s*for (\w+) in (\S+)", joined):
            variables[loop[1]] = loop[2].rstrip(";")
        for variable, value in variables.items():
            joined = joined.replace(f"${variable}", value)
        yield place - len(line), joined.strip()
        joined = ""


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return text.split()[0] not in PROGRAMS  # an apostrophe in what is no command
    return True


def _command(page: str, line: int, text: str) -> Command | None:
    try:
        words = shlex.split(text.replace("\\\n", " ").removeprefix("$ "), comments=True)
    except ValueError:
        return None
    environment = {}
    while words and (given := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        environment[given[1]] = given[2]
        words = words[1:]
    words = words[1:] if words[:1] == ["srun"] else words
    end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))
    words = words[:end]
    if not words or words[0] not in PROGRAMS or (len(words) < 2):
        return None
    return Command(page, line, " ".join(text.split()), tuple(words), environment)


ALL = [command for page in pages() for command in commands_of(page)]

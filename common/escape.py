"""Escape transcripts and names for each output format, so that they are shown as text and do nothing else."""

import html as _html
import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from common.printing import visible

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
_LATEX = str.maketrans(
    {mark: rf"\{mark}" for mark in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    # At the start of a row these would be read as arguments of the line break before it.
    | {"[": "{[}", "*": "{*}"}
)


def html(text: str) -> str:
    """Return the text for HTML, between tags or inside a quoted attribute."""
    return _html.escape(visible(text), quote=True)


def markdown(text: str) -> str:
    """Return the text for Markdown, within a line or a table's cell."""
    return _MARKDOWN.sub(r"\\\1", visible(text))


def latex(text: str) -> str:
    """Return the text for LaTeX's text mode."""
    return visible(text).translate(_LATEX)


def csv(text: str) -> str:
    """Return the text for a cell of a CSV file, an apostrophe before what a spreadsheet would run as a formula."""
    text = visible(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def figure(text: str) -> str:
    """Return the text for a figure of matplotlib, which would read what stands between dollar signs as a formula."""
    return visible(text).replace("$", r"\$")


def json_text(content: Any, indent: int) -> str:
    """Return JSON with readable letters, in which characters that would control a terminal are escaped."""
    text = json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    return "".join(char if visible(char, keep="\n") == char else json.dumps(char)[1:-1] for char in text)


def _yaml(value: Any) -> Markup:
    """Return text, or a list of texts, for the YAML at a card's head."""
    text = json.dumps(value, ensure_ascii=False)
    return Markup("".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text))


def _code(text: str) -> Markup:
    """Return the text as code within a line of Markdown, where it can be."""
    return Markup(markdown(text) if {"`", "|"} & set(text) or not text.strip() else f"`{visible(text)}`")


def _code_block(text: str, language: str) -> Markup:
    """Return lines as a block of code of Markdown, fenced by more backticks than stand in any of them."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence}{language}\n{visible(text, keep=chr(10)).rstrip()}\n{fence}")


def template(path: Path) -> Template:
    """Return a page's template, of HTML or Markdown: all text that is filled in is made visible and escaped.

    Values that are markup are filled in by `|safe`; in Markdown, `|code` and `|code_block("yaml")` make code of text,
    and `|yaml` a value of the head.
    """
    is_html = path.suffix == ".html"

    def shown(value: Any) -> Any:
        if type(value) is not str:
            return value
        return visible(value) if is_html else Markup(markdown(value))

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=is_html,  # noqa: S701 (the one that is not HTML is Markdown, which `finalize` escapes)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.filters |= {"yaml": _yaml, "code": _code, "code_block": _code_block}
    return environment.get_template(path.name)

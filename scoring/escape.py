"""Text that stays text: transcripts and model names made harmless for each format that shows them."""

import html as _html
from pathlib import Path

import regex
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

# Control characters, direction marks and other invisible ones would act on the reader's screen; half a surrogate pair
# cannot even be written.
_ACTING = regex.compile(r"[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]")
_MARKDOWN = regex.compile(r"([\\`*_\[\]<>|~&$])")
_LATEX = str.maketrans(
    {mark: rf"\{mark}" for mark in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    # At the start of a row these would be read as arguments of the line break before it.
    | {"[": "{[}", "*": "{*}"}
)


def visible(text: str) -> str:
    """Return the text with every control, direction and invisible character shown as its number, e.g. ‹U+202E›."""
    return _ACTING.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)


def html(text: str) -> str:
    """Return the text for HTML, between tags or inside a quoted attribute."""
    return _html.escape(visible(text), quote=True)


def markdown(text: str) -> str:
    """Return the text for a cell of a Markdown table."""
    return _MARKDOWN.sub(r"\\\1", visible(text))


def latex(text: str) -> str:
    """Return the text for LaTeX's text mode."""
    return visible(text).translate(_LATEX)


def csv(text: str) -> str:
    """Return the text for a cell of a CSV file, an apostrophe before what a spreadsheet would run as a formula."""
    text = visible(text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def template(path: Path) -> Template:
    """Return a page's template; in one of HTML, all text that is filled in is made visible, then escaped."""
    is_html = path.suffix == ".html"
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=is_html,  # noqa: S701 (the one that is not HTML is Markdown, whose text is escaped before)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=(lambda value: visible(value) if type(value) is str else value) if is_html else None,
    )
    return environment.get_template(path.name)

"""What files hold is shown on the terminal, in Markdown and in messages, and never acts."""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from backbone.model_folder.training_card import Recipe, training_card
from common.errors import UserError, run_script
from common.escape import json_text, template
from common.markdown import split
from common.printing import console, guard_logs, show, visible, warn

# A colour, a title, a cleared screen, a line gone back to, another line, bells, directions, C1, halves, separators.
ACTING = "\x1b[31m \x1b]0;x\x07 \x9b2J \r \n \x08\x7f \u202e\u2066\u200f \x85 \ud800 \u2028 \u00ad\u200b\ufeff"
NAME = '𠮷\U000e0041\u202e:# [a, b]\t"\\'
MARKUP = (
    "<img src=x onerror=alert(1)> [a](javascript:b) ![c](d) **e** `f` | g | <!-- h --> \n# i\n\n```\n--- $j$ &lt; ~~k~~"
)
PAGE = """| {{ text }} | {{ text|code }} |
|---|---|
| {{ text }} | {{ text|code }} |

says {{ text }}.

{{ text|code_block("yaml") }}
"""
RENDERED = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def test_each_acting_character_is_shown_by_its_number():
    assert visible("\x1b[1m가é 漢\u202e") == "‹U+001B›[1m가é 漢‹U+202E›"
    assert visible("a\tb\nc", keep="\t") == "a\tb‹U+000A›c"
    assert visible(Path("/a b/ü")) == "/a b/ü" and visible(visible(ACTING)) == visible(ACTING)


@pytest.mark.parametrize("printing", [show, warn], ids=lambda one: one.__name__)
def test_nothing_that_is_printed_acts(printing, capsys: pytest.CaptureFixture[str]):
    printing(f"id {ACTING}", "second")
    found = "".join(capsys.readouterr())
    first, second, rest = found.split("\n")
    assert first.isprintable() and (second, rest) == ("second", "")


def test_nothing_in_a_table_on_the_terminal_acts(monkeypatch: pytest.MonkeyPatch):
    screen = console()
    screen.file = io.StringIO()
    table = Table("[bold]name[/bold]", ACTING.replace("\ud800", ""))
    table.add_row("[link=file:///x]:smile:[/link] [/not open]", ACTING.replace("\ud800", ""))
    screen.print(table, ACTING.replace("\ud800", ""))
    shown = screen.file.getvalue()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "[bold]name[/bold]" in shown and "[link=file:///x]:smile:[/link]" in shown


def test_a_colour_of_our_own_is_one():
    screen = console()
    screen._color_system, screen.file = 1, io.StringIO()
    screen.print("\x1b[31mtheirs", style="bold")
    assert screen.file.getvalue() == "\x1b[1m‹U+001B›[31mtheirs\x1b[0m\n"


def test_a_message_of_any_length_keeps_its_ends():
    said = str(UserError("a.json: " + "x" * 10**6 + "; copy it from the base", "y" * 10**6)).split("\n")
    assert [len(line) for line in said] == [2005, 2005]
    assert said[0].startswith("a.json: xxx") and said[0].endswith("xxx; copy it from the base") and " ... " in said[0]


def test_a_message_cannot_act_or_begin_another_line(capsys: pytest.CaptureFixture[str]):
    error = UserError(f"a.jsonl:1: the id {ACTING}", "second line")
    assert str(error).count("\n") == 1 and all(line.isprintable() for line in str(error).split("\n"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  (as it comes from a worker)

    def fails() -> None:
        raise UserError(f"the audio file {ACTING}")

    def missing() -> None:
        Path("no\x1b[31m").read_text()

    for main in (fails, missing):
        with pytest.raises(SystemExit) as ended:
            run_script(main)
        written = capsys.readouterr().err
        assert ended.value.code == 2 and written.startswith("error: ") and written.removesuffix("\n").isprintable()


def test_what_libraries_log_of_a_file_cannot_act(caplog: pytest.LogCaptureFixture):
    before = logging.getLogRecordFactory()
    try:
        guard_logs()
        logging.getLogger("library").warning("newly initialized: %s", ["\x1b[31mx", ACTING])
        logging.getLogger("library").warning("tensor \x1b[31m%s", "\u202ex")
    finally:
        logging.setLogRecordFactory(before)
    assert all(line.isprintable() for record in caplog.records for line in record.getMessage().split("\n"))


def test_json_for_readers_is_the_same_and_cannot_act():
    content = {"a" + ACTING.replace("\ud800", ""): [ACTING.replace("\ud800", ""), "漢　字", 1.5, None]}
    text = json_text(content, indent=1)
    assert json.loads(text) == content and "漢　字" in text
    assert all(visible(line) == line for line in text.split("\n"))


def test_the_head_of_a_card_holds_any_name():
    card = training_card(Recipe("run", NAME, "ERM", {"ko-en": {"utterances": 3, "sources": [], "licences": []}}, {}))
    assert split(card)[0]["base_model"] == NAME
    assert all(line.isprintable() for line in card.split("\n"))


def plain(html: str) -> str:
    """What a reader sees of HTML."""
    html = re.sub(r"<[^>]*>", "", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        html = html.replace(entity, char)
    return html


def test_a_card_shows_names_licences_and_sources_as_text():
    corpus = {"utterances": 3, "sources": [f"corpus {MARKUP}"], "licences": [f"CC-BY-NC {MARKUP}"]}
    settings = {"frozen": f"x {MARKUP}"}
    recipe = Recipe(f"run {MARKUP}", f"base {MARKUP}{ACTING}", "ERM", {"ko-en": corpus}, settings, [MARKUP])
    card = training_card(recipe)
    head, body = split(card)
    assert head["base_model"] == f"base {MARKUP}{ACTING}"
    html = RENDERED.render(body)
    plainest = {"ko-en": {"utterances": 3, "sources": ["c"], "licences": ["CC-BY-NC"]}}
    whole = training_card(Recipe("run", "base", "ERM", plainest, {"frozen": "x"}, ["n"]))
    tags = lambda text: re.findall(r"</?\w+", RENDERED.render(split(text)[1]))  # noqa: E731
    extra = [tag for tag in tags(card) if tag not in tags(whole)]
    assert not extra and tags(card).count("<tr") == tags(whole).count("<tr") and tags(card).count("<h1") == 1
    assert "<img" not in html and "<a " not in html and "<!--" not in html and "<del" not in html
    assert visible(MARKUP) in plain(html).replace("\n", " ")


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ab`*_<>[]()|\\#~!&$-\n\t \u202e\x1b"), max_size=12))
def test_whatever_is_filled_into_markdown_stays_text(tmp_path_factory: pytest.TempPathFactory, text: str):
    page = tmp_path_factory.mktemp("page") / "page.md"
    page.write_text(PAGE)
    filled = RENDERED.render(template(page).render(text=text))
    empty = RENDERED.render(template(page).render(text="a"))
    tags = [re.findall(r"</?\w+", one.replace("<code>", "").replace("</code>", "")) for one in (filled, empty)]
    assert tags[0] == tags[1]
    assert plain(filled).count(visible(text).strip()) >= 5

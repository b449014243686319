"""The results table against figures worked by hand, and hostile names in every format."""

import csv
import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from scoring.table import Row, Table, to_csv, to_json, to_latex, to_markdown, write_table
from scoring.terminal import to_terminal

SEEN, UNSEEN = ["ko-en", "ja-en"], ["ko-de", "ko-ja"]
BASE = {"ko-en": 0.5, "ja-en": 0.25, "ko-de": 0.75, "ko-ja": 0.25, "ko": 0.01}
TABLE = Table(
    "cjk",
    SEEN,
    UNSEEN,
    [
        Row("base", "Base", BASE, macro={"ko-en": 0.6}),
        Row("joint", "Fine-tuned", {"ko-en": 0.125, "ja-en": 0.25, "ko-de": 0.5}, significant=frozenset({"ko-en"})),
        Row("ko-de only", "Oracle", {"ko-de": 0.0625}),
        Row("second", "Base", {"ko-en": 0.12501}),
    ],
    baseline="base",
)
UNDEFINED = {"seen": None, "unseen": None, "significant": []}
HOSTILE = '<script>alert("x")</script> =1+1 | $x_1^2$ \\a{} % & # ~ `c` *b* [l](u) \u202e \x1b[31m\n[red]'


def test_json_is_exactly_the_published_layout():
    assert json.loads(to_json(TABLE)) == {
        "profile": "cjk",
        "baseline": "base",
        "rows": [
            {"model": "base", "group": "Base", "scores": BASE, "seen": 0.375, "unseen": 0.5, "significant": None},
            {
                "model": "joint",
                "group": "Fine-tuned",
                "scores": {"ko-en": 0.125, "ja-en": 0.25, "ko-de": 0.5},
                "seen": 0.1875,
                "unseen": None,
                "significant": ["ko-en"],
            },
            {"model": "ko-de only", "group": "Oracle", "scores": {"ko-de": 0.0625}, **UNDEFINED},
            {"model": "second", "group": "Base", "scores": {"ko-en": 0.12501}, **UNDEFINED},
        ],
    }


def test_markdown_groups_rows_and_sets_the_best_in_bold_but_no_oracle():
    micro, macro = to_markdown(TABLE).split("\nMixed")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in micro.splitlines() if line.startswith("|")]
    assert rows[0] == ["Group", "Model", "KO-EN", "JA-EN", "Seen avg", "KO-DE", "KO-JA", "Unseen avg", "KO"]
    assert rows[2:] == [
        ["Base", "base", "50.0", "**25.0**", "37.5", "75.0", "**25.0**", "**50.0**", "**1.0**"],
        ["", "second", "**12.5**", "–", "–", "–", "–", "–", "–"],  # equal as printed: both are best
        ["Fine-tuned", "joint", r"**12.5\***", "**25.0**", "**18.8**", "**50.0**", "–", "–", "–"],
        ["Oracle", "ko-de only", "–", "–", "–", "6.2", "–", "–", "–"],
    ]
    assert "differs from base" in micro
    assert "| base | **60.0** | – |" in macro


def test_csv_keeps_full_precision_and_both_averagings():
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert [row["averaging"] for row in rows] == ["micro"] * 4 + ["macro"] * 4
    assert rows[3]["ko-en"] == "0.12501"
    assert rows[1]["unseen"] == ""
    assert rows[4]["ko-en"] == "0.6"
    assert [row["significant"] for row in rows] == ["", "ko-en", *[""] * 6]


def test_latex_sets_groups_dashes_and_bold():
    text = to_latex(TABLE)
    assert r"base & 50.0 & \textbf{25.0} & 37.5 & 75.0 & \textbf{25.0} & \textbf{50.0} & \textbf{1.0} \\" in text
    assert r"\multicolumn{8}{l}{\textit{Oracle}} \\" in text
    assert r"ko-de only & -- & -- & -- & 6.2 & -- & -- & -- \\" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_terminal_shows_every_figure_whole_at_any_width(width):
    sets = ["ko-en", "ja-en", "de-en", "ko-ja", "ko-de", "ko", "ja", "de", "en"]
    rates = {name: 1.001 + number / 100 for number, name in enumerate(sets)}
    rows = [Row("ties ko-en + ja-en + de-en 한국어", "Merged of what was fine-tuned on a pair", rates, rates)]
    rows += [Row("base", "Base", rates, significant=frozenset(sets))]
    table = Table("cjk", sets[:3], sets[3:5], rows, "base")
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(to_terminal(table))
    lines = console.export_text().splitlines()
    assert max(map(cell_len, lines)) <= width
    micro, macro = "\n".join(lines).split("macro")
    for row, marked, part in ((rows[0], "", micro), (rows[1], "*", micro), (rows[0], "", macro)):
        cells = [table.cell(row, column)[0].rstrip("*") + marked * (column in sets) for column in table.columns]
        figures = {line.split()[-1 - place] for line in part.splitlines() for place in range(len(line.split()))}
        assert set(cells) <= figures
    blocks = {40: 5, 80: 2, 120: 1}[width]
    assert micro.count("Base\n") == micro.count("───\n") == blocks  # a line of its own for each group, in each block
    assert ("+ de-en 한국어" in micro) == (width == 120)
    for part, star in ((micro, 1), (macro, 0)):  # heads stand above their figures, of an average's two lines the lower
        for line in part.splitlines():
            if heads := [match.end() for match in re.finditer(r"\b(avg|[A-Z]{2}(-[A-Z]{2})?)\b", line)]:
                expected = heads
            elif line.startswith("  ties"):
                shift = cell_len(line) - len(line)  # Hangul is two columns wide
                assert [match.end() + shift + star for match in re.finditer(r"\d+\.\d", line)] == expected


@pytest.mark.parametrize("place", ["model", "group"])
def test_hostile_names_are_shown_as_text_everywhere(place):
    row = Row(**{"model": "m", "group": "g", place: HOSTILE}, scores={"ko-en": 0.5})
    table = Table("cjk", ["ko-en"], [], [row, Row("n", "g", {}, significant=frozenset({"ko-en"}))], baseline=HOSTILE)

    assert json.loads(to_json(table))["rows"][0][place] == HOSTILE
    markdown = to_markdown(table)
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 4
    assert r"\<script\>" in markdown
    assert r"\| \$x\_1^2\$ \\a{}" in markdown
    latex = to_latex(table)
    assert r"\textless{}script\textgreater{}" in latex
    assert r"\$x\_1\textasciicircum{}2\$ \textbackslash{}a\{\} \% \& \#" in latex
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(to_terminal(table))
    terminal = console.export_text()
    assert "‹U+202E› ‹U+001B›[31m‹U+000A›[red]" in terminal
    for text in (markdown, latex, terminal, to_csv(table)):
        assert "\u202e" not in text
        assert "\x1b[31m" not in text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1"])
def test_csv_cells_are_no_formulas(name):
    table = Table("cjk", ["ko-en"], [], [Row(name, name, {"ko-en": 0.5})])
    row = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert row["model"] == row["group"] == "'" + name


def test_a_table_without_seen_or_unseen_pairs_has_no_averages():
    table = Table("cjk", [], [], [Row("base", "Base", {"ko": 0.5})])
    assert table.columns == ["ko"]
    assert json.loads(to_json(table))["rows"][0]["seen"] is None


def test_writing_leaves_four_files_and_nothing_else(tmp_path):
    write_table(TABLE, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv", "table.json", "table.md", "table.tex"]
    assert (tmp_path / "table.json").read_text(encoding="utf-8") == to_json(TABLE)

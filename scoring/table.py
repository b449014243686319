"""The results table: models by language pairs, with the averages over seen and unseen pairs."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path

from common import escape
from common import markdown as cards
from common.csv_text import csv_text
from common.files import write_text

SEEN, UNSEEN, SINGLE = AVERAGES = ("seen", "unseen", "single")
MICRO, TOLERANT, MACRO = "micro", "script-tolerant", "macro"
DASH = "–"


def is_oracle(group: str) -> bool:
    """Whether a group's models were trained on what they are tested on, so that they are never marked as best."""
    return group.lower().startswith("oracle")


@dataclass(frozen=True)
class Row:
    """A model's figures by test set, as fractions.

    `scores` are micro, `tolerant` the same without script errors, `macro` the averages over utterances.

    `significant` names the columns (sets and averages) whose difference from the table's baseline is significant.
    """

    model: str
    group: str
    scores: Mapping[str, float]
    macro: Mapping[str, float] = field(default_factory=dict)
    tolerant: Mapping[str, float] = field(default_factory=dict)
    significant: frozenset[str] = frozenset()

    @property
    def is_oracle(self) -> bool:
        """Whether the model is one of an oracle group."""
        return is_oracle(self.group)


@dataclass(frozen=True)
class Table:
    """Models by test sets; rows of a group stand together, in the order given.

    Sets outside `seen` and `unseen` follow them, and the average of the single languages. The best of each column is
    bold; a group whose name begins with "oracle" is left out of that. `tags` has the policy of language tags of each
    model that was decoded with its own, `guarded` the number of hypotheses, by what guards did to them in decoding and
    by model, and `rules` the rules of the script-tolerant figures.
    """

    profile: str
    seen: Sequence[str]
    unseen: Sequence[str]
    rows: Sequence[Row]
    baseline: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    guarded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rules: Sequence[str] = ()

    @property
    def own_tags(self) -> str:
        """The models that were decoded with tags of their own, as the rest of a line; nothing where there are none."""
        policies = dict.fromkeys(self.tags.values())
        models = {policy: ", ".join(name for name, own in self.tags.items() if own == policy) for policy in policies}
        return "".join(f"; tag {policy} for {escape.visible(names)}" for policy, names in models.items())

    @property
    def by_guard(self) -> str:
        """What guards did in decoding, as the rest of a line; nothing where they did nothing."""
        parts = [
            f"{what}: " + ", ".join(f"{escape.visible(model)} {number}" for model, number in numbers.items())
            for what, numbers in self.guarded.items()
        ]
        return f"; hypotheses {'; '.join(parts)}" if parts else ""

    @cached_property
    def columns(self) -> list[str]:
        """The columns in order."""
        return in_order(self.seen, self.unseen, (name for row in self.rows for name in row.scores))

    @cached_property
    def single(self) -> list[str]:
        """The single languages, where there are several."""
        return single_languages((name for row in self.rows for name in row.scores), (*self.seen, *self.unseen))

    @cached_property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows by group, groups in the order of their first row."""
        order = list(dict.fromkeys(row.group for row in self.rows))
        rows = sorted(self.rows, key=lambda row: order.index(row.group))
        return [(group, list(members)) for group, members in groupby(rows, key=lambda row: row.group)]

    def value(self, row: Row, column: str, figure: str = MICRO) -> float | None:
        """Return a cell as a fraction; None without a score; an average is None where one of its pairs has none.

        Args:
            row: the model.
            column: a test set or an average.
            figure: micro, script-tolerant or macro.
        """
        scores = {MICRO: row.scores, TOLERANT: row.tolerant, MACRO: row.macro}[figure]
        if column not in AVERAGES:
            return scores.get(column)
        pairs = {SEEN: self.seen, UNSEEN: self.unseen, SINGLE: self.single}[column]
        values = [scores.get(pair) for pair in pairs]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def best(self, column: str, figure: str = MICRO) -> float | None:
        """The lowest value of a column among the models that are no oracles."""
        values = (self.value(row, column, figure) for row in self.rows if not row.is_oracle)
        return min((value for value in values if value is not None), default=None)

    def cell(self, row: Row, column: str, figure: str = MICRO) -> tuple[str, bool]:
        """Return a cell in per cent, with an asterisk where significant, and whether it is the column's best.

        Args:
            row: the model.
            column: a test set or an average.
            figure: micro, script-tolerant or macro.
        """
        value = self.value(row, column, figure)
        if value is None:
            return DASH, False
        # Compared as printed: two equal figures are both bold.
        shown, best = f"{100 * value:.1f}", self.best(column, figure)
        is_best = best is not None and shown == f"{100 * best:.1f}" and not row.is_oracle
        return shown + ("*" if figure == MICRO and column in row.significant else ""), is_best

    def marked(self, row: Row) -> list[str] | None:
        """The columns where a row differs significantly from the baseline; None for the baseline, or without one."""
        if self.baseline in (None, row.model):
            return None
        return [column for column in self.columns if column in row.significant]

    @property
    def figures(self) -> list[str]:
        """The figures that the rows have: micro, and where given script-tolerant and macro."""
        tolerant, macro = any(row.tolerant for row in self.rows), any(row.macro for row in self.rows)
        return [MICRO, *[TOLERANT] * tolerant, *[MACRO] * macro]

    def caption(self, figure: str) -> str:
        """What the figures are, in a line."""
        over = "micro (pooled over utterances)" if figure != MACRO else "macro (mean over utterances)"
        kind = "Script-tolerant mixed error rate" if figure == TOLERANT else "Mixed error rate"
        text = f"{kind} (%), {over}, profile {self.profile}{self.own_tags}; best in bold"
        text += self.by_guard if figure == MICRO else ""
        if figure == TOLERANT:
            text += f"; rules {', '.join(self.rules)}" if self.rules else ""
            text += "; the strict figure minus this one is the script-error rate"
        if figure == MICRO and any(row.significant for row in self.rows):
            text += f"; * differs from {escape.visible(self.baseline or 'the baseline')} (paired bootstrap, 95 %)"
        return text


def single_languages(names: Iterable[str], pairs: Sequence[str]) -> list[str]:
    """The test sets of one language each, beside those of pairs; none where there are fewer than two to average."""
    found = [name for name in dict.fromkeys(names) if "-" not in name and name not in pairs]
    return found if len(found) > 1 else []


def in_order(seen: Sequence[str], unseen: Sequence[str], names: Iterable[str]) -> list[str]:
    """Seen pairs and their average, unseen pairs and theirs, the other test sets, the single languages' average.

    Args:
        seen: pairs seen in training.
        unseen: pairs not seen.
        names: all test sets.
    """
    pairs = [*seen, *([SEEN] if seen else []), *unseen, *([UNSEEN] if unseen else [])]
    others = [name for name in dict.fromkeys(names) if name not in pairs]
    return pairs + others + ([SINGLE] if single_languages(others, ()) else [])


def write_table(table: Table, folder: Path | str) -> None:
    """Write `table.json`, `table.md`, `table.csv` and `table.tex`, each atomically."""
    for ending, render in (("json", to_json), ("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        write_text(Path(folder) / f"table.{ending}", render(table))


def to_json(table: Table) -> str:
    """Return the table as JSON: micro rates as fractions, null where an average lacks a pair.

    `significant` has the columns that differ significantly from the baseline, null without a baseline.
    """
    rows = [
        {
            "model": row.model,
            "group": row.group,
            "scores": dict(row.scores),
            **({"tolerant": dict(row.tolerant)} if row.tolerant else {}),
            SEEN: table.value(row, SEEN),
            UNSEEN: table.value(row, UNSEEN),
            "significant": table.marked(row),
        }
        for row in table.rows
    ]
    rules = {"tolerant_rules": list(table.rules)} if table.rules else {}
    document = {"profile": table.profile, **rules, "baseline": table.baseline, "rows": rows}
    return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def to_csv(table: Table) -> str:
    """Return the table as CSV: one line for each model and figure, rates as fractions, empty where there is none.

    The last column lists the columns that differ significantly from the baseline, separated by spaces.
    """
    lines = [["model", "group", "averaging", *map(escape.csv, table.columns), "significant"]]
    for figure in table.figures:
        for row in table.rows:
            values = (table.value(row, column, figure) for column in table.columns)
            cells = ["" if value is None else repr(value) for value in values]
            marked = "" if figure != MICRO else escape.csv(" ".join(table.marked(row) or ()))
            lines.append([escape.csv(row.model), escape.csv(row.group), figure, *cells, marked])
    return csv_text(lines)


def to_markdown(table: Table) -> str:
    """Return the table in Markdown, the strict micro figures first, script-tolerant and macro ones below them."""
    return "\n".join(_markdown(table, figure) for figure in table.figures)


def _markdown(table: Table, figure: str) -> str:
    heads = [column_head(column, escape.markdown) for column in table.columns]
    lines = []
    for group, rows in table.groups:
        for position, row in enumerate(rows):
            cells = [table.cell(row, column, figure) for column in table.columns]
            shown = [f"**{_star(text)}**" if best else _star(text) for text, best in cells]
            name = escape.markdown(group) if position == 0 else ""
            lines.append((name, escape.markdown(row.model), *shown))
    caption = escape.markdown(table.caption(figure))
    return f"{caption}\n\n{cards.table(('Group', 'Model', *heads), lines, 2)}\n"


def _star(text: str) -> str:
    return text.replace("*", r"\*")


def to_latex(table: Table) -> str:
    """Return the table as LaTeX `tabular`s in booktabs' style."""
    return "\n".join(_latex(table, figure) for figure in table.figures)


def _latex(table: Table, figure: str) -> str:
    heads = [column_head(column, escape.latex) for column in table.columns]
    lines = [
        f"% {escape.visible(table.caption(figure))}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}  % \usepackage{{booktabs}}",
        r"\toprule",
        rf"Model & {' & '.join(heads)} \\",
    ]
    for group, rows in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{{len(heads) + 1}}}{{l}}{{\textit{{{escape.latex(group)}}}}} \\"]
        for row in rows:
            cells = [table.cell(row, column, figure) for column in table.columns]
            shown = [rf"\textbf{{{text}}}" if best else text.replace(DASH, "--") for text, best in cells]
            lines.append(rf"{escape.latex(row.model)} & {' & '.join(shown)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def column_head(column: str, escaped: Callable[[str], str]) -> str:
    """Return a column's title, escaped for where it is shown."""
    if column in AVERAGES:
        return f"{column.capitalize()} avg"
    return escaped(escape.visible(column.upper()))

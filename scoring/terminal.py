"""The results table on a terminal: as many columns side by side as fit, the rest below, no figure ever cut."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from common.printing import visible
from scoring.table import AVERAGES, MICRO, SEEN, SINGLE, UNSEEN, Row, Table, column_head

_GAPS = (2, 1)  # spaces between columns; the narrow one where it saves a block
_INDENT = 2


def to_terminal(table: Table) -> Group:
    """Return the table for a rich console, micro first."""
    return Group(*(_FigureTable(table, figure) for figure in table.figures))


@dataclass(frozen=True)
class _FigureTable:
    """One kind of figure, laid out when the width is known."""

    table: Table
    figure: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        names = max((cell_len(visible(row.model)) for row in self.table.rows), default=0) + _INDENT
        names = min(names, max(18, options.max_width // 3))
        yield Text(self.table.caption(self.figure), style="bold")
        room = options.max_width - names
        gap = min(_GAPS, key=lambda gap: len(self._blocks(room, gap)))
        for columns in self._blocks(room, gap):
            widths = {column: gap + self._cells_width(column) for column in columns}
            words = [_head_words(column) for column in columns]
            depth = max(map(len, words))
            heads = [Text("\n".join([""] * (depth - len(head)) + head), justify="right") for head in words]
            yield _grid(names, widths, [["", *heads]])
            yield Text("─" * (names + sum(widths.values())), style="dim")
            for group, rows in self.table.groups:
                yield Text(visible(group), style="italic dim")
                yield _grid(names, widths, (self._row(row, widths) for row in rows))
            yield Text()

    def _blocks(self, room: int, gap: int) -> list[list[str]]:
        """The columns in blocks that fit; pairs stay beside their average where they can."""

        def width(columns: Sequence[str]) -> int:
            return sum(gap + self._cells_width(column) for column in columns)

        families = [[*self.table.seen, SEEN], [*self.table.unseen, UNSEEN], [*self.table.single, SINGLE]]
        columns = self.table.columns
        others = [column for column in columns if not any(column in family for family in families)]
        blocks: list[list[str]] = [[]]
        for family in (*families, others):
            family = [column for column in family if column in columns]
            for column in family:
                together = family if column == family[0] else [column]
                if blocks[-1] and width([*blocks[-1], *together]) > room:
                    blocks.append([])
                blocks[-1].append(column)
        return blocks

    def _cells_width(self, column: str) -> int:
        heads = (cell_len(word) for word in _head_words(column))
        return max([*heads, *(len(self._cell(row, column)[0]) for row in self.table.rows)])

    def _cell(self, row: Row, column: str) -> tuple[str, bool]:
        text, best = self.table.cell(row, column, self.figure)
        stars = self.figure == MICRO and any(other.significant for other in self.table.rows)
        return text + " " * (stars and not text.endswith("*")), best

    def _row(self, row: Row, widths: Mapping[str, int]) -> Iterator[RenderableType]:
        yield Padding(Text(visible(row.model)), (0, 0, 0, _INDENT))
        for column, width in widths.items():
            text, best = self._cell(row, column)
            yield Text(text.rjust(width), style="bold green" if best else "")  # `justify` would cut the last blank off


def _grid(names: int, widths: Mapping[str, int], rows: Iterable[Iterable[RenderableType]]) -> Grid:
    """Return rows of a model's name and its figures; fixed widths keep all groups aligned."""
    grid = Grid(box=None, padding=0, show_header=False)
    grid.add_column(width=names, overflow="fold")
    for column, width in widths.items():
        grid.add_column(width=width, no_wrap=True, style="cyan" if column in AVERAGES else "")
    for row in rows:
        grid.add_row(*row)
    return grid


def _head_words(column: str) -> list[str]:
    """Return a column's title by line: two for an average, one for a test set."""
    head = column_head(column, str)
    return head.split(" ") if column in AVERAGES else [head]

"""What a study's file may hold, as typed dataclasses; a wrong key or value is reported before anything runs."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from common.errors import UserError, nearest
from common.files import check_name
from common.option_types import Seed, expected, fits_range


@dataclass(frozen=True)
class CorpusPlan:
    """A corpus to be prepared; its key in the file is its folder."""

    command: str
    """The command of `prepare.py` with its options, without `--out`."""
    parts: list[str] = field(default_factory=lambda: ["."])
    """Subfolders, each of which gets a `corpus.json` when it is complete."""
    after: list[str] = field(default_factory=list)
    """Folders of corpora that must be prepared first."""


@dataclass(frozen=True)
class RunPlan:
    """A run of `train.py`; its key in the file is the run's name and folder."""

    group: str
    """The group of its row in the table."""
    name: str = ""
    """Its row in the table; the run's name where left out."""
    config: list[str] = field(default_factory=list)
    """Recipes and overlays; the recipe or pair of the run's name where left out."""
    train: dict[str, Any] = field(default_factory=dict)
    """Options of `train.py` for this run."""
    language: str | None = None
    """Policy of language tags for decoding this run; the evaluation's where left out."""


@dataclass(frozen=True)
class MergeRow:
    """A method's rows of the table: one merge of `runs`, or of every subset of the runs that all rows share."""

    name: str
    group: str
    method: str
    folder: str = "merges"
    runs: list[str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seeded: bool = False
    """Whether the method draws, and takes the study's seed."""
    language: str | None = None
    """Policy of language tags for decoding this merge; the evaluation's where left out."""


@dataclass(frozen=True)
class MergePlan:
    """The merges: of every subset of two or more of the runs `of`, unless a row names its runs."""

    rows: list[MergeRow] = field(default_factory=list)
    of: list[str] = field(default_factory=list)
    engine: str = "stream"


@dataclass(frozen=True)
class TagPlan:
    """Rows that are decoded again with other language tags, each a further row."""

    rows: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    """As `evaluate.py --language` takes them: `embedded`, `auto`, `two_tag`, or a code."""


@dataclass(frozen=True)
class AnalyzePlan:
    """The runs whose weights are analysed."""

    of: list[str]
    threshold: str | float = 5e-5
    """The mean absolute change above which a row of weights counts as changed, or `auto`."""


@dataclass(frozen=True)
class ComparePlan:
    """The rows whose differences from the rows `to` are tested; `all` compares every row."""

    to: list[str]
    rows: list[str] | str = "all"


@dataclass(frozen=True)
class Curve:
    """A curve of a column's error rates: `rows` by their place on the axis, `beside` as horizontal lines."""

    of: str
    axis: str
    rows: dict[str, float]
    beside: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PrintedFigures:
    """A paper's own figures, as fractions, by row (or `best`) and column."""

    source: str = ""
    rows: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class StudyFile:
    """A file of `configs/study/`."""

    root: str
    seeds: list[int]
    backbone: str
    corpora: dict[str, CorpusPlan]
    runs: dict[str, RunPlan]
    merge: MergePlan
    evaluate: dict[str, Any]
    name: str | None = None
    """The name of its scores and summary, in a root that several studies share; also that of its file."""
    title: str = ""
    """The title of its section in RESULTS.md; its label where left out."""
    about: str = ""
    train: dict[str, Any] = field(default_factory=dict)
    tags: TagPlan = field(default_factory=TagPlan)
    analyze: AnalyzePlan = field(default_factory=lambda: AnalyzePlan([]))
    compare: ComparePlan = field(default_factory=lambda: ComparePlan([]))
    curves: dict[str, Curve] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    printed: PrintedFigures = field(default_factory=PrintedFigures)

    def __post_init__(self) -> None:
        """Check that the parts agree with each other.

        Raises:
            UserError: naming the place and what was expected.
        """
        if not self.seeds:
            raise UserError("seeds is [], expected a list of whole numbers such as [0, 1, 2]")
        if wrong := [seed for seed in self.seeds if not fits_range(Seed, seed)]:
            raise UserError(f"seeds holds {wrong[0]}, expected {expected(Seed)}")
        check_names("merge: of", self.merge.of, self.runs)
        check_names("analyze: of", self.analyze.of, self.runs)
        for row in self.merge.rows:
            where = f"merge: rows: {row.name}"
            for part in row.folder.split("/"):
                check_name(part, f"{where}: folder")
            if row.runs == []:
                raise UserError(f"{where}: runs is [], expected a list of runs to merge")
            if row.runs is None and not self.merge.of:
                raise UserError(f"{where}: name its 'runs', or in merge: of: those of all rows")
            check_names(f"{where}: runs", row.runs or (), self.runs)


def read_fields(kind: type, content: Any, where: str) -> dict[str, Any]:
    """Return the fields of the dataclass `kind` out of a mapping, nested mappings as the dataclasses of their types.

    Args:
        kind: a dataclass.
        content: plain values, as YAML gives them.
        where: the place in the file, for messages.

    Raises:
        UserError: naming the place, the key or value, and what was expected.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected a mapping, found {content!r}")
    known = {item.name: item for item in fields(kind)}
    check_names(where, content, known)
    for name, item in known.items():
        if name not in content and item.default is MISSING and item.default_factory is MISSING:
            raise UserError(f"{where}: {name!r} is missing")
    hints, place = get_type_hints(kind), "" if where == "the study" else f"{where}: "
    return {name: _value(hints[name], value, f"{place}{name}") for name, value in content.items()}


def check_names(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse a name that is not among `known`.

    Args:
        where: the place in the file, for the message.
        names: the names that are there.
        known: the names that may be there.

    Raises:
        UserError: with the nearest right name.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise UserError(f"{where}: no {name!r}{nearest(str(name), known)} Known: {', '.join(known)}")


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return a value as a type: a dataclass, a dictionary or list of such, a union, text, or a number."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return _value(next((one for one in inside if _fits(one, value)), inside[0]), value, where)
    if is_dataclass(kind):
        return kind(**read_fields(kind, value, where))
    if kind is int and str(value).isdecimal():  # Snakemake's `--config 'seeds=[0,1]'` may give them as text
        return int(value)
    if hint is not Any and (not _fits(hint, value) or (kind in (int, float) and isinstance(value, bool))):
        raise UserError(f"{where} is {value!r}, expected {expected(hint)}")
    if kind is dict:
        return {str(key): _value(inside[1], one, f"{where}: {key}") for key, one in value.items()}
    return [_value(inside[0], one, where) for one in value] if kind is list else value


def _fits(hint: Any, value: Any) -> bool:
    kind = get_origin(hint) or hint
    return isinstance(value, Mapping if is_dataclass(kind) else {float: (int, float), dict: Mapping}.get(kind, kind))

"""One test set's figures for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from common.code_mixing import LANGUAGE_SOURCES, MAX_DISTANCE
from scoring.bootstrap import Estimate
from scoring.contributions import EDITS, ScoredUtterance
from scoring.escape import visible
from scoring.failures import FAILURES
from scoring.results import Comparison, Results, SetScore
from scoring.table import AVERAGES, DASH

SOURCE_TEXTS = {
    "spans": "the manifest's spans",
    "script": "script",
    "unknown": "nothing (one script, no spans)",
}


def summary(result: SetScore) -> Group:
    """Return the figures of one test set for a rich console."""
    figures, counts = result.estimates, result.score.counts
    head = Text.assemble(
        (f"{len(result.utterances)} utterances, {counts.reference_tokens} tokens, profile {result.profile}\n", "bold"),
        f"languages of tokens by {source_text(figures)}; intervals by bootstrap over {result.drawn}",
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("%", "95 % interval", "of", *(name[:3] for name in EDITS.values())):
        if not table.columns:
            table.add_column("", min_width=26)
        table.add_column(title, justify="right", no_wrap=True)
    for title, rows in sections(figures):
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for label, name in rows:
            table.add_row(Text(f"  {visible(label)}"), *_cells(name, figures))
    return Group(head, table, _plain(figures))


def overview(
    ours: Mapping[str, Estimate],
    theirs: Mapping[str, Estimate],
    differences: Mapping[str, Estimate],
    first: str,
    second: str,
    profile: str,
    figure: str = "mer",
) -> Group:
    """Return two models' error rates and their differences by test set and average, for a rich console."""
    kind = "Mixed error rate" if figure == "mer" else "Script-tolerant mixed error rate"
    title = f"{kind} (%), micro, profile {profile}; * the difference's 95 % interval leaves 0 out"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in (first, second, "difference", "95 % interval"):
        table.add_column(Text(visible(name)), justify="right", overflow="fold")
    for name, estimate in differences.items():
        label = f"{name} average" if name in AVERAGES else name
        rates = (per_cent(side[name].value) for side in (ours, theirs))
        table.add_row(Text(visible(label)), *rates, *_difference_cells(estimate))
    return Group(Text(title, style="bold"), table)


def _difference_cells(estimate: Estimate) -> tuple[str, str]:
    shown = f"{_signed(estimate.low)} – {_signed(estimate.high)}" if estimate.low is not None else DASH
    return _signed(estimate.value) + ("*" if estimate.significant else " "), shown


def failure_lines(results: Results) -> list[Text]:
    """Return a line for each model with failed hypotheses, of how many they are over all test sets."""
    lines = []
    for model, by_set in results.items():
        utterances = [utterance for result in by_set.values() for utterance in result.utterances]
        counts = Counter(failure for utterance in utterances for failure in utterance.failures)
        if counts:
            found = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in FAILURES if counts[name])
            lines.append(Text(f"failed of {len(utterances):,} hypotheses by {visible(model)}: {found}"))
    return lines


def comparison_summary(comparison: Comparison, first: str, second: str, changed: int = 5) -> Group:
    """Return two models' differences on one test set, and the utterances that changed most, for a rich console.

    Args:
        comparison: of two models on one test set.
        first: the name of the one.
        second: the name of the other.
        changed: how many changed utterances to show.
    """
    head = f"{visible(first)} minus {visible(second)}, in points (* the 95 % interval leaves 0 out)"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", min_width=26)
    for title in ("difference", "95 % interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for title, rows in sections(comparison.differences):
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for label, name in rows:
            table.add_row(Text(f"  {visible(label)}"), *_difference_cells(comparison.differences[name]))
    return Group(
        Text(head, style="bold"), table, *(_changed(pair, first, second) for pair in comparison.changed[:changed])
    )


def _changed(pair: tuple[ScoredUtterance, ScoredUtterance], first: str, second: str) -> Group:
    """An utterance's reference and both hypotheses, with each one's number of errors."""
    item = pair[0].transcript
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(overflow="fold", max_width=32)
    lines.add_column(justify="right")
    lines.add_column(overflow="fold")
    lines.add_row("  reference", "", Text(visible(item.reference)))
    for name, utterance in zip((first, second), pair, strict=True):
        text = visible(utterance.transcript.hypothesis) or "(empty)"
        lines.add_row(Text(f"  {visible(name)}"), str(utterance.counts.errors), Text(text))
    return Group(Text(visible(item.id), style="bold"), lines, "")


def _signed(value: float | None) -> str:
    return DASH if value is None or value != value else f"{100 * value:+.1f}"


def sections(figures: dict[str, Estimate]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the rates there are, as (title, [(label, figure's name)]), in reading order."""
    languages = sorted(name.split(".", 1)[1] for name in figures if f"{name}.deletions" in figures)
    directions = sorted(name.removeprefix("direction.") for name in figures if name.startswith("direction."))
    all_sections: list[tuple[str, Sequence[tuple[str, str]]]] = [
        ("Mixed error rate", [("micro (pooled)", "mer"), ("macro (mean of utterances)", "mer.macro")]),
        (
            "Script-tolerant",
            [
                ("micro (pooled)", "tolerant"),
                ("macro (mean of utterances)", "tolerant.macro"),
                ("script errors (the difference)", "script_error"),
            ],
        ),
        ("By language", [(name, f"language.{name}") for name in languages]),
        (
            "Points of interest",
            [
                ("embedded language (PIER)", "pier"),
                ("the rest", "pier.rest"),
                ("embedded, deleted", "embedded_deletion"),
            ],
        ),
        (
            "By distance to a switch",
            [(f"{n}{'+' * (n == MAX_DISTANCE)} tokens between", f"distance.{n}") for n in range(MAX_DISTANCE + 1)],
        ),
        ("Beside a switch", [(name.replace(">", " → "), f"direction.{name}") for name in directions]),
        ("Failed hypotheses", [(name.replace("_", " "), f"failure.{name}") for name in FAILURES]),
    ]
    known = [(title, [(label, name) for label, name in rows if name in figures]) for title, rows in all_sections]
    return [(title, rows) for title, rows in known if rows]


def source_text(figures: dict[str, Estimate]) -> str:
    """Return where the tokens' languages are from, with shares of utterances where there are several sources."""
    used = [(source, figures[f"languages_by.{source}"].value) for source in LANGUAGE_SOURCES]
    used = [(source, share) for source, share in used if share > 0]
    if len(used) == 1:
        return SOURCE_TEXTS[used[0][0]]
    return ", ".join(f"{SOURCE_TEXTS[source]} ({100 * share:.0f} %)" for source, share in used)


def per_cent(value: float | None) -> str:
    """Return a fraction in per cent with one decimal, a dash for what is not defined."""
    return DASH if value is None or value != value else f"{100 * value:.1f}"


def _cells(name: str, figures: dict[str, Estimate]) -> list[str]:
    estimate = figures[name]
    interval = f"{per_cent(estimate.low)} – {per_cent(estimate.high)}" if estimate.low is not None else DASH
    prefix = "" if name == "mer" else f"{name}."
    edits = [figures[key].numerator for key in (f"{prefix}{edit}" for edit in EDITS.values()) if key in figures]
    return [per_cent(estimate.value), interval, f"{estimate.denominator:.0f}", *(f"{number:.0f}" for number in edits)]


def _plain(figures: dict[str, Estimate]) -> Text:
    rows = (
        ("length ratio", "length_ratio", "hypothesis tokens per reference token"),
        ("switches", "switches", "per utterance"),
        ("code-mixing index", "cmi", "mean, from 0 (one language); words"),
    )
    known = [(label, figures[name].value, what) for label, name, what in rows if name in figures]
    return Text("\n".join(f" {label:<26} {value:>5.2f}  {what}" for label, value, what in known))

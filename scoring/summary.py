"""One test set's figures for a terminal."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import yaml
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from common.code_mixing import MAX_DISTANCE
from common.printing import visible
from scoring.bootstrap import Estimate
from scoring.contributions import EDITS, ScoredUtterance
from scoring.failures import FAILURES
from scoring.results import Changed, Results, SetScore
from scoring.table import AVERAGES, DASH
from scoring.tolerant import rules_on

_TEXTS = yaml.safe_load((Path(__file__).parent / "summary_texts.yaml").read_text(encoding="utf-8"))
_MOST_CHANGED = 5  # utterances that are shown of a comparison


def summary(result: SetScore) -> Group:
    """Return the figures of one test set for a rich console."""
    figures, counts = result.estimates, result.score.counts
    head = Text.assemble(
        (f"{len(result.utterances)} utterances, {counts.reference_tokens} tokens, profile {result.profile}\n", "bold"),
        f"languages of tokens by {source_text(figures)}; intervals by bootstrap over {result.drawn}\n",
        f"script-tolerant by {', '.join(rules_on())}",
    )
    edits = (name[:3] for name in EDITS.values())
    table = _by_section(figures, ("%", "95 % interval", "of", *edits), lambda name: _cells(name, figures))
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
    """Return two models' error rates and their differences by test set and average, for a rich console.

    Args:
        ours: the first model's error rates.
        theirs: the second model's.
        differences: the first minus the second.
        first: the first model's name.
        second: the second's.
        profile: the scoring profile, for the title.
        figure: `mer`, or `tolerant` for the script-tolerant rate.
    """
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
    """Return a line for each model with failed hypotheses: how many of each kind, over all test sets."""
    lines = []
    for model, by_set in results.items():
        utterances = [utterance for result in by_set.values() for utterance in result.utterances]
        counts = Counter(failure for utterance in utterances for failure in utterance.failures)
        if counts:
            found = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in FAILURES if counts[name])
            lines.append(Text(f"failed of {len(utterances):,} hypotheses by {visible(model)}: {found}"))
    return lines


def comparison_summary(found: dict[str, Estimate], changed: Changed, first: str, second: str) -> Group:
    """Return two models' differences on one test set, and the utterances that changed most, for a rich console.

    Args:
        found: the differences by figure.
        changed: the utterances whose hypotheses differ, the most changed first.
        first: the name of the one model.
        second: the name of the other.
    """
    head = f"{visible(first)} minus {visible(second)}, in points (* the 95 % interval leaves 0 out)"
    table = _by_section(found, ("difference", "95 % interval"), lambda name: _difference_cells(found[name]))
    return Group(Text(head, style="bold"), table, *(_changed(pair, first, second) for pair in changed[:_MOST_CHANGED]))


def _by_section(figures: Mapping[str, Estimate], titles: Iterable[str], cells: Callable[[str], Iterable[str]]) -> Table:
    """Return a table with a row for each figure, whose cells `cells` returns by the figure's name."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", min_width=26)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for title, labels in sections(figures).items():
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for name, label in labels.items():
            table.add_row(Text(f"  {visible(label)}"), *cells(name))
    return table


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


def sections(figures: Mapping[str, Estimate]) -> dict[str, dict[str, str]]:
    """Return the labels of the rates that there are, by section and figure, in reading order."""
    found: dict[str, dict[str, str]] = dict(_TEXTS["sections"])
    found["By language"] = {
        name: name.removeprefix("language.") for name in sorted(figures) if f"{name}.deletions" in figures
    }
    found["By distance to a switch"] = {
        f"distance.{n}": f"{n}{'+' * (n == MAX_DISTANCE)} tokens between" for n in range(MAX_DISTANCE + 1)
    }
    found["Beside a switch"] = {
        name: name.removeprefix("direction.").replace(">", " → ")
        for name in sorted(figures)
        if name.startswith("direction.")
    }
    found["Failed hypotheses"] = {f"failure.{name}": name.replace("_", " ") for name in FAILURES}
    known = {title: {name: labels[name] for name in labels if name in figures} for title, labels in found.items()}
    return {title: labels for title, labels in known.items() if labels}


def source_text(figures: dict[str, Estimate]) -> str:
    """Return where the tokens' languages are from, with shares of utterances where there are several sources."""
    used = {text: figures[f"languages_by.{source}"].value for source, text in _TEXTS["sources"].items()}
    shown = [f"{text} ({100 * share:.0f} %)" if share < 1 else text for text, share in used.items() if share > 0]
    return ", ".join(shown)


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
    rows = [(figures[name].value, *texts) for name, texts in _TEXTS["numbers"].items() if name in figures]
    return Text("\n".join(f" {label:<26} {value:>5.2f}  {unit}" for value, label, unit in rows))

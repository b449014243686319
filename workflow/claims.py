"""The paper's picture, statement by statement, and whether a study shows it: counted over seeds, not judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scoring.table import SEEN, UNSEEN
from workflow.collect import Collected, Figure, mean_figure


@dataclass(frozen=True)
class Claim:
    """A statement, the figures that speak to it (per cent and points), and in how many of the cases it holds."""

    statement: str
    found: str
    holds: int
    of: int

    @property
    def verdict(self) -> str:
        """Whether it holds: in every case, in none, or in so many."""
        return {self.of: "yes", 0: "no"}.get(self.holds, f"in {self.holds} of {self.of}")


def claims(collected: Collected) -> list[Claim]:
    """The statements that the study has the rows for; a case is a seed, for transfer a model on a pair in all seeds."""
    if not all(collected.pairs) or "of" not in collected.study.settings["merge"]:
        return []
    parts = (_transfer, _third_model, _steadiness, _short_steps, _joint, _gap)
    return [claim for part in parts for claim in part(collected)]


def _transfer(collected: Collected) -> Iterator[Claim]:
    tuned = [collected.study.runs[run]["name"] for run in collected.study.settings["merge"]["of"]]
    for title, pairs in zip(("the other seen pairs", "unseen pairs"), collected.pairs, strict=True):
        changes = {
            (model, pair): _minus(collected, model, "base", pair) for model in tuned for pair in pairs if pair != model
        }
        ordered = sorted(changes, key=lambda case: changes[case].mean)
        if ordered:
            best, worst = (f"{_points(changes[case])} ({case[0]} on {case[1]})" for case in (ordered[0], ordered[-1]))
            better = sum(all(change < 0 for change in figure.by_seed) for figure in changes.values())
            found = f"from {best} to {worst} against the base"
            yield Claim(f"Fine-tuning on one pair lowers the error on {title}", found, better, len(changes))


def _third_model(collected: Collected) -> Iterator[Claim]:
    for title, method in (("Task Arithmetic", "task_arithmetic"), ("DARE", "dare_linear")):
        *two, three = _subsets(collected, method) or [None]
        if two:
            pairs = mean_figure([collected.figure(name, SEEN) for name in two])
            more = collected.figure(three, SEEN).minus(pairs)
            found = f"seen average {_rate(collected.figure(three, SEEN))} with three, {_rate(pairs)} with two"
            found += f", {_rate(collected.figure('base', SEEN))} the base"
            yield _claim(f"{title} at weight 1 breaks down with the third model", found, more, worse=True)


def _steadiness(collected: Collected) -> Iterator[Claim]:
    methods = {"TIES": "ties", "Task Arithmetic": "task_arithmetic", "DARE": "dare_linear"}
    spreads = {title: _spread(collected, _subsets(collected, method)) for title, method in methods.items()}
    if all(spreads.values()):
        found = "seen average of the worst subset less the best: "
        found += ", ".join(f"{title} {_rate(spread)}" for title, spread in spreads.items())
        ties, *others = spreads.values()
        steadiest = zip(*(other.by_seed for other in others), strict=True)
        yield _claim(
            "TIES is the steadiest over the four subsets", found, ties.minus(Figure(tuple(map(min, steadiest))))
        )


def _short_steps(collected: Collected) -> Iterator[Claim]:
    kinds = (
        ("Task Arithmetic", ("task_arithmetic", 1), ("linear", 1)),
        ("DARE", ("dare_linear", 1), ("dare_linear", "1/n")),
    )
    for title, long, short in kinds:
        if (far := _subsets(collected, *long)) and (near := _subsets(collected, *short)):
            change = _minus(collected, near[-1], "base", SEEN)
            found = f"seen average {_rate(collected.figure(near[-1], SEEN))} with three at 1/n, "
            found += f"{_rate(collected.figure(far[-1], SEEN))} at 1, {_rate(collected.figure('base', SEEN))} the base"
            yield _claim(f"At weight 1/n {title} of three stays better than the base (not in the paper)", found, change)


def _joint(collected: Collected) -> Iterator[Claim]:
    if "erm" not in collected.study.runs:
        return
    joint = collected.study.runs["erm"]
    change = _minus(collected, joint["name"], "base", UNSEEN)
    yield _claim("Joint training lowers the error on unseen pairs", f"unseen average {_points(change)}", change)
    for model, group in collected.groups.items():
        if group == joint["group"] and model != joint["name"]:
            change = _minus(collected, model, joint["name"], UNSEEN)
            found = f"unseen average {_points(change)} against {joint['name']}"
            yield _claim(f"{model} does better than joint ERM on unseen pairs", found, change)


def _gap(collected: Collected) -> Iterator[Claim]:
    best = {of: collected.best(of) for of in (SEEN, UNSEEN)}
    seen, unseen = (collected.figure(best[of], of) for of in (SEEN, UNSEEN))
    found = f"{_rate(unseen)} ({best[UNSEEN]}) against {_rate(seen)} ({best[SEEN]})"
    yield _claim("The best on unseen pairs stays behind the best on seen ones", found, unseen.minus(seen), worse=True)
    if all(pair in collected.groups for pair in collected.pairs[1]):
        oracle = mean_figure([collected.figure(pair, pair) for pair in collected.pairs[1]])
        found = f"{_rate(oracle)} against {_rate(unseen)}"
        yield _claim(
            "Training on the unseen pairs themselves does better than any transfer", found, oracle.minus(unseen)
        )


def _claim(statement: str, found: str, change: Figure, *, worse: bool = False) -> Claim:
    """A claim that holds in the seeds where the error falls, or with `worse` rises."""
    holds = sum((step > 0) if worse else (step < 0) for step in change.by_seed)
    return Claim(statement, found, holds, len(change.by_seed))


def _subsets(collected: Collected, method: str, weight: Any = 1) -> list[str]:
    """The rows that a method merged at a weight, the largest subset last."""
    merges = [one for one in collected.study.merges.values() if not one.listed]
    return [one.name for one in merges if one.method == method and one.options.get("weight", 1) == weight]


def _minus(collected: Collected, model: str, other: str, column: str) -> Figure:
    return collected.figure(model, column).minus(collected.figure(other, column))


def _spread(collected: Collected, models: list[str]) -> Figure | None:
    by_seed = zip(*(collected.figure(model, SEEN).by_seed for model in models), strict=True)
    return Figure(tuple(max(rates) - min(rates) for rates in by_seed)) if models else None


def _rate(figure: Figure) -> str:
    return f"{100 * figure.mean:.1f}"


def _points(figure: Figure) -> str:
    deviation = "" if figure.deviation is None else f" ± {100 * figure.deviation:.1f}"
    return f"{100 * figure.mean:+.1f}{deviation}"

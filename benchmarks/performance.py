"""Writes docs/performance.md from what the benchmarks left behind: `python benchmarks/performance.py`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, shown

PAGE = ROOT / "docs" / "performance.md"
PROSE = ROOT / "benchmarks" / "performance_page.md"


class Found:
    """The benchmarks' results, by name; empty where one has not run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [path for path in sorted(folder.glob("*.json")) if "nano" not in path.stem]  # those are mere trials
        self.made = {path.stem: json.loads(path.read_text()) for path in files}

    def __call__(self, name: str, *keys: str) -> Any:
        """A figure, or None."""
        value: Any = self.made.get(name, {}).get("results")
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def printed(self, name: str) -> str:
        """What a benchmark printed."""
        path = self.folder / f"{name}.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def columns(self, name: str) -> dict[str, list[str]]:
        """The rows of the Markdown table that a benchmark printed, by their first cell."""
        rows = [line.strip("| \n").split("|") for line in self.printed(name).splitlines() if line.startswith("|")]
        return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows[2:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    found = Found(args.results)
    page = PROSE.read_text(encoding="utf-8")
    for name, lines in {
        "machines": machines(found),
        "goals": goals(found),
        "arithmetic": arithmetic(found),
        "windows": windows(found),
        "profile": profile(found),
        "growth": growth(found),
        "large": large(),
        "own": own(found),
    }.items():
        page = page.replace(f"{{{{{name}}}}}", "\n".join(lines))
    args.page.write_text(re.sub(r"\n{3,}", "\n\n", page), encoding="utf-8")
    print(args.page)


def machines(found: Found) -> Iterator[str]:
    """What was measured where; one line where all was measured alike."""
    if not found.made:
        yield "No benchmark has run yet."
    seen = {json.dumps({k: v for k, v in one["machine"].items() if k not in ("load", "peak_gb")}, sort_keys=True)
            for one in found.made.values()}  # fmt: skip
    for text in sorted(seen):
        one = json.loads(text)
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        yield (
            f"- {one['processor']}, {one['cores']} cores, {one['threads']} threads, {one['memory_gb']} GB; "
            f"Python {one['python']}, {versions}; commit {one['commit']}, {one['day']}"
        )


def goals(found: Found) -> Iterator[str]:
    """The table of goals."""
    yield "| work | measured against | goal | measured | met? |"
    yield "|---|---|---|---|---|"
    for shape, auto in (("tiny", (1.5, 5.0)), ("base", (1.6, 6.0))):
        for own, theirs, goals in (("float32", "float32", (0.97, 2.8)), ("bfloat16", "float32", auto)):
            for window, least in zip(("30s", "8"), goals, strict=True):
                yield at_least(f"training, whisper-{shape}, window {label(window)}, {own}",
                               f"Seq2SeqTrainer at 30 s, {theirs}", least,
                               found(f"training-{shape}", "faster",
                                     f"{window}, ours in {own}, the recipe in {theirs}"))  # fmt: skip
        for window in ("30s", "8"):
            figure = found(f"training-{shape}", "faster", f"{window}, ours in bfloat16, the recipe in bfloat16")
            if figure:
                yield (f"| training, whisper-{shape}, window {label(window)}, bfloat16 | Seq2SeqTrainer at 30 s, "
                       f"bfloat16 | - | {shown(figure)}x | |")  # fmt: skip
    for shape in ("tiny", "small"):
        name = f"decoding-{shape}"
        for window, least in (("30s", 1.2), ("8", 4.0), ("longest", 4.0)):
            work = f"greedy decoding, whisper-{shape}, window {label(window)}"
            yield at_least(work, "transformers' pipeline at 30 s", least, found(name, "faster", window))
        if figure := found(name, "faster", "faster-whisper"):
            yield f"| the same by CTranslate2, 30 s, float32 | transformers' pipeline | - | {shown(figure)}x | |"
    for bins in ("80", "128"):
        yield at_least(f"log-mel of 30 s, {bins} bins", "WhisperFeatureExtractor, an utterance a call",
                       3.0, found("features", bins, "faster"))  # fmt: skip
    for shape in ("tiny", "base"):
        for window in ("30s", "8"):
            yield at_most(f"waiting for data, whisper-{shape}, window {label(window)}, 2 workers", "the step",
                          0.03, found(f"training-{shape}", "data_wait", f"{window}, float32"))  # fmt: skip
    rows = found.columns("algorithms")
    for name in ("Fish", "Fishr", "GGAL"):
        value = float(rows[name][1]) if name in rows else None
        figure = None if value is None else {"median": value, "low": value, "high": value}
        yield at_most(f"training step of {name.replace('GGAL', 'GGA-L')}, whisper-tiny, 8 s", "ERM", 1.15, figure)
    for way in ("30s", "30s, checkpointing", "8s", "longest"):
        yield at_most(f"peak memory of training, whisper-tiny, window {label(way)}", "Seq2SeqTrainer at 30 s",
                      0.8, found("memory-tiny", "of_recipe", way))  # fmt: skip
    for script in ("prepare", "merge", "evaluate", "analyze"):
        yield at_most(f"`{script}.py --help`", "seconds", 1.0, found("startup", script, "seconds"))
    yield at_most("`train.py --help`", "importing Lightning", 1.0, found("startup", "train", "of_importing_lightning"))


def label(window: str) -> str:
    """`8.0` is 8 s."""
    return re.sub(r"^(\d+)(\.0)?$", r"\1 s", window).replace("30s", "30 s").replace("8s", "8 s")


def at_least(work: str, against: str, goal: float, figure: Mapping[str, float] | None) -> str:
    """A row whose figure is to be large."""
    return _row(work, against, f"{goal:g}x", figure, "x", figure is not None and figure["median"] >= goal)


def at_most(work: str, against: str, goal: float, figure: Mapping[str, float] | None) -> str:
    """A row whose figure is to be small."""
    return _row(work, against, f"at most {goal:g}", figure, "", figure is not None and figure["median"] <= goal)


def _row(work: str, against: str, goal: str, figure: Mapping[str, float] | None, unit: str, met: bool) -> str:
    if figure is None:
        return f"| {work} | {against} | {goal} | not measured | |"
    text = shown(figure, 3 if figure["median"] < 0.1 else 2)
    return f"| {work} | {against} | {goal} | {text}{unit} | {'met' if met else '**not met**'} |"


def arithmetic(found: Found) -> Iterator[str]:
    """How much of a training step is arithmetic that has to be done."""
    shares = found("breakdown-small", "training", "shares") or {}
    both = sum(shares.get(name, 0.0) for name in ("matrix products", "attention", "convolutions"))
    if both:
        yield (
            f"Now matrix products, attention and convolutions are {100 * both:.0f} % of whisper-small's step. Were all "
            f"else free, a step would be {1 / both:.2f} times as fast; beyond that there are only fewer positions or "
            "lower precision."
        )


def windows(found: Found) -> Iterator[str]:
    """What agreement of training's and decoding's windows is worth on the demo."""
    results = found("windows")
    if not results:
        return
    names = list(results)
    yield (
        "On the demo (`benchmarks/windows.py`; its utterances last 2.7 s, its backbone's whole window is 5 s): mixed "
        "error rate, mean over the five mixed pairs, of joint fine-tunes.\n"
    )
    yield f"| trained with | {' | '.join(f'decoded with {name}' for name in names)} |"
    yield "|---|" + "---|" * len(names)
    for trained, by_window in results.items():
        yield f"| {trained} | {' | '.join(f'{100 * by_window[name]:.1f} %' for name in names)} |"


def profile(found: Found) -> Iterator[str]:
    """Where the time of two steps goes."""
    results = found("breakdown-small")
    if not results:
        return
    train, decode, ceiling = results["training"], results["decoding"], results["ceilings"]
    yield (
        "whisper-small, 30 s. The machine's ceilings, by the same threads: "
        f"{ceiling['gigaflops']:.0f} Gflop/s in a product of two 2048 x 2048 matrices, "
        f"{ceiling['gigabytes_a_s']:.1f} GB/s in copying 256 MB (read and written).\n"
    )
    yield (
        f"- A training step of {train['utterances']} utterance(s): {train['gigaflop']:.0f} Gflop of matrix products, "
        f"at {100 * train['of_matrix_ceiling']['median']:.0f} % of the matrix ceiling over the whole step."
    )
    yield (
        f"- A decoding step of {decode['utterances']} utterances: {decode['gigabytes']:.2f} GB of weights, keys and "
        f"values, at {100 * decode['of_copy_ceiling']['median']:.0f} % of the copy ceiling.\n"
    )
    names = list(dict.fromkeys([*train["shares"], *decode["shares"]]))
    yield "| share of the time | training | decoding |"
    yield "|---|---|---|"
    for name in names:
        cells = (f"{100 * one['shares'].get(name, 0):.1f} %" for one in (train, decode))
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def growth(found: Found) -> Iterator[str]:
    """The tables of growth."""
    results = found("growth")
    if not results:
        return
    yield f"whisper-{results['shape']}, window {results['window_s']} s, one thread; seconds of processor time, GB.\n"
    for series, what in (("pairs", "pairs of 1 utterance"), ("utterances", "utterances of each of 2 pairs")):
        counts = list(next(iter(results[series].values())))
        yield f"| {what} | {' | '.join(counts)} |"
        yield "|---|" + "---|" * len(counts)
        for name, costs in results[series].items():
            cells = (f"{costs[c]['seconds']:.2f} s, {costs[c]['gigabytes']:.2f} GB" for c in counts)
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""
    yield "| 2 pairs of 1 utterance | parameters | ERM | Fishr | GGA-L |"
    yield "|---|---|---|---|---|"
    for shape, costs in results["models"].items():
        cells = (f"{costs[n]['seconds']:.2f} s, {costs[n]['gigabytes']:.2f} GB" for n in ("ERM", "Fishr", "GGAL"))
        yield f"| {shape} | {costs['parameters'] / 1e6:.0f} M | {' | '.join(cells)} |"
    yield ""
    one, two = results["ranks"]["seconds"]
    yield (
        f"Two ranks of one thread, each with as many utterances as one alone: {one:.2f} s and {two:.2f} s a step, "
        f"{results['ranks']['speedup']:.2f} times the utterances/s.\n"
    )


def large() -> Iterator[str]:
    """What the algorithms declare to hold with 45 pairs of large-v3 on 8 GPUs."""
    from lightning_modules import algorithms

    parameters, head, pairs, gpus = 1_543e6, 51_866 * 1280, 45, 8
    yield "| algorithm | passes over the batch | GB beyond ERM's | divided over 8 GPUs (fsdp) |"
    yield "|---|---|---|---|"
    for name, kind in algorithms.named():
        needs = kind().needs(pairs)
        extra = 4e-9 * (needs.parameter_copies * parameters + needs.head_copies * head)
        share = f"{extra / gpus:.1f} GB a GPU" if kind.supports_sharding else "no: needs ddp"
        yield f"| {name} | {needs.passes:g} | {extra:.1f} | {share} |"


def own(found: Found) -> Iterator[str]:
    """Benchmarks with goals of their own, as they print them."""
    texts = {name: found.printed(name) for name in ("algorithms", "scoring", "prepare", "merging")}
    if not any(texts.values()):
        return
    yield "\n## Algorithms, scoring, preparing, merging\n"
    for name, text in texts.items():
        if text and "|---" in text:
            yield f"`benchmarks/{name}.py`: {text}\n"
        elif text:
            yield f"`benchmarks/{name}.py`:\n\n```\n{text}\n```\n"


if __name__ == "__main__":
    main()

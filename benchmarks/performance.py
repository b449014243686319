"""Writes docs/performance.md and docs/performance.json from what benchmarks left: `python benchmarks/performance.py`.

The figures of `outputs/benchmarks` (a CPU's) and `outputs/benchmarks/gpu` take the place of earlier ones of the same
benchmark in docs/performance.json; the page is benchmarks/performance_page.md with a table in place of each `{{name}}`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import RESULTS, ROOT, shown

PAGE = ROOT / "docs" / "performance.md"
TEMPLATE = ROOT / "benchmarks" / "performance_page.md"
NOT_MEASURED = "not measured"
FORMATS = ("float32", "bfloat16")
_PREPARING = {
    "nothing": "Python and its libraries alone",
    "prepare_jsonl": "`prepare.py cs_fleurs`, a JSONL table",
    "prepare_csv_with_guard": "`prepare.py unicom`, a CSV table and a held-out manifest",
    "prepare_archive": "`prepare.py aihub`, an archive",
    "prepare_and_draw": "`prepare.py nemo`, and a draw of 584",
    "check_manifest": "`prepare.py check`",
    "read_long_manifest": "reading a long manifest",
}
Lines = Iterator[str]


class Found:
    """What the benchmarks of a machine found; `{}` where one has not run."""

    def __init__(self, made: Mapping[str, Any]) -> None:
        self.made = made

    def __call__(self, name: str) -> dict[str, Any]:
        """A benchmark's results."""
        return self.made.get(name, {}).get("results", {})

    def parts(self, name: str) -> list[str]:
        """The benchmarks whose names begin so; the name itself where there is none."""
        return [part for part in self.made if part.startswith(name)] or [name]

    def source(self, *names: str) -> Lines:
        """Under a table: what made it, where and when; or why there is none."""
        for name in names:
            if one := self.made.get(name):
                machine, versions = one["machine"], one["machine"]["versions"]
                where = f"{machine.get('gpu') or machine['processor']}, {machine['threads']} threads"
                what = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers"))
                made = f"{what}, commit {machine['commit']}, {machine['day']}"
                yield f"\n`{one['command']}`, {where}, Python {machine['python']}, {made}."
            elif part := self.made.get("parts", {}).get(name):
                yield f"\n`{name}`: {part['state']}: {part['why']}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    figures = args.page.with_suffix(".json")
    known = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    for kind, folder in (("cpu", args.results), ("gpu", args.results / "gpu")):
        for path in sorted(folder.glob("*.json")):
            known.setdefault(kind, {})[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    figures.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    page = TEMPLATE.read_text(encoding="utf-8")
    for kind, prefix in (("cpu", ""), ("gpu", "gpu ")):
        found = Found(known.get(kind, {}))
        for name, lines in SECTIONS.items():
            page = page.replace(f"{{{{{prefix}{name}}}}}", "\n".join(lines(found)))
    args.page.write_text(re.sub(r"\n{3,}", "\n\n", page), encoding="utf-8")
    print(args.page)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A table in Markdown, without columns that are empty in every row; one without rows says so."""
    rows = list(rows)
    kept = [place for place in range(len(heads)) if not rows or any(row[place] for row in rows)]
    head, *body = ([row[place] for place in kept] for row in (heads, *rows))
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from [f"| {' | '.join(row)} |" for row in body] or [f"| {NOT_MEASURED}{' |' * len(head)}"]


def training(found: Found) -> Lines:
    """Seconds of a training step beside the usual recipe's."""
    parts = found.parts("training")
    rows = [
        [model_name(model), row["precision"], window(row["way"]), shown(row["seconds_a_step"]),
         *(shown(figure) if figure else "" for figure in map(row.get("faster_than_recipe", {}).get, FORMATS)),
         f"{100 * row['data_wait']['median']:.1f} %" if "data_wait" in row else "",
         f"{row['peak_gb']:.1f}" if row["peak_gb"] else ""]
        for part in parts for model, one in found(part).get("models", {}).items() for row in one["rows"]
    ]  # fmt: skip
    faster = (f"times as fast as Seq2SeqTrainer in {precision}" for precision in FORMATS)
    heads = ["model", "number format", "window", "seconds a step", *faster, "waiting for data", "GPU's memory, GB"]
    yield from table(heads, rows)
    yield from found.source(*parts)


def memory(found: Found) -> Lines:
    """The peak memory of training beside the usual recipe's."""
    one = found("memory")
    rows = [
        [
            way.replace("recipe", "Seq2SeqTrainer"),
            f"{min(own):.2f}",
            shown(one["of_recipe"][way]) if way in one["of_recipe"] else "",
        ]
        for way, own in one.get("gigabytes", {}).items()
    ]
    yield from table([f"whisper-{one.get('shape', 'base')}, float32", "GB", "of Seq2SeqTrainer's"], rows)
    yield from found.source("memory")


def decoding(found: Found) -> Lines:
    """Utterances a second beside the pipeline's."""
    rows = [
        [model_name(model), row["precision"], row["engine"], window(row["window"]), shown(row["utterances_a_second"]),
         shown(row["faster_than_pipeline"]) if "faster_than_pipeline" in row else "",
         f"{100 * row['same_texts']:.0f} %"]
        for model, own in found("decoding").get("models", {}).items() for row in own
    ]  # fmt: skip
    heads = ["model", "number format", "decoded by", "window", "utterances a second"]
    yield from table([*heads, "times as fast as the pipeline", "texts that equal the pipeline's"], rows)
    yield from found.source("decoding")


def algorithms(found: Found) -> Lines:
    """A step of each algorithm beside ERM's."""
    parts = found.parts("algorithms")
    rows = [
        [name, f"whisper-{one['shape']}", {"bf16": "bfloat16"}.get(one["precision"], "float32"), f"{one['window']} s",
         shown(row["seconds"]), shown(row["beside_erm"]), f"{row['gigabytes']:.2f}"]
        for one in map(found, parts) for name, row in one.get("rows", {}).items()
    ]  # fmt: skip
    heads = ["algorithm", "model", "number format", "window", "seconds a step", "beside ERM", "memory of a step, GB"]
    yield from table(heads, rows)
    yield from found.source(*parts)


def resuming(found: Found) -> Lines:
    """Whether a resumed run ends as one that was never stopped."""
    rows = [
        [name, *("every bit" if not row[key] else f"up to {row[key]:.1g}" for key in row)]
        for name, row in found("resuming").get("rows", {}).items()
    ]
    yield from table(["algorithm", "a resumed run and a whole one agree in", "two whole ones in"], rows)
    yield from found.source("resuming")


def merging(found: Found) -> Lines:
    """Seconds of a merge beside mergekit's."""
    rows = [
        [model_name(model), row["what"], shown(row["seconds"], 1), f"{row['over_floor']['median']:.2f}",
         shown(row["faster_than_mergekit"], 1) if "faster_than_mergekit" in row else "", f"{row['peak_gb']:.2f}"]
        for model, own in found("merging").items() for row in own
    ]  # fmt: skip
    heads = ["models", "what", "seconds", "of reading and writing alone", "times as fast as mergekit", "memory, GB"]
    yield from table(heads, rows)
    yield from found.source("merging")


def features(found: Found) -> Lines:
    """The log-mel beside transformers'."""
    rows = [[f"{bins} bins", shown(one["faster"])] for bins, one in found("features").items()]
    yield from table(["log-mel of 30 s", "times as fast as WhisperFeatureExtractor, an utterance a call"], rows)
    yield from found.source("features")


def startup(found: Found) -> Lines:
    """Seconds of `--help`."""
    rows = [[name if " " in name else f"`{name}.py --help`", shown(one["seconds"])]
            for name, one in found("startup").items()]  # fmt: skip
    yield from table(["command", "seconds"], rows)
    yield from found.source("startup")


def scoring(found: Found) -> Lines:
    """Processor seconds of scoring."""
    rows = [[what, f"{taken:.2f}"] for what, taken in found("scoring").get("seconds", {}).items()]
    yield from table(["scoring, one thread", "seconds"], rows)
    yield from found.source("scoring")


def preparing(found: Found) -> Lines:
    """Seconds and memory of preparing."""
    one = found("preparing")
    rows = [
        [_PREPARING[name], f"{row['seconds']:.1f}", f"{row['peak_mb']:.0f}"]
        for name, row in one.get("rows", {}).items()
    ]
    size = f"{one['utterances']:,} utterances of 1 s; the long manifest has {one['lines']:,} lines" if one else "step"
    yield from table([size, "seconds", "memory, MB"], rows)
    yield from found.source("preparing")


def windows(found: Found) -> Lines:
    """What agreement of training's and decoding's windows is worth on the demo."""
    results = found("windows")
    names = list(next(iter(results.values()), {"30s": 0, "longest": 0}))
    rows = [[window(trained), *(f"{100 * own[name]:.1f} %" for name in names)] for trained, own in results.items()]
    yield from table(["trained with", *(f"decoded with {window(name)}" for name in names)], rows)
    yield from found.source("windows")


def growth(found: Found) -> Lines:
    """How a step grows with pairs, utterances, the model and ranks."""
    results = found("growth")
    rows = []
    for series, what in (("pairs", "pairs of 1 utterance"), ("utterances", "utterances of each of 2 pairs")):
        for name, costs in results.get(series, {}).items():
            rows += [[name, f"{count} {what}", *cost(one)] for count, one in costs.items()]
    for shape, costs in results.get("models", {}).items():
        size = f"2 pairs of 1 utterance, whisper-{shape}, {costs['parameters'] / 1e6:.0f} M parameters"
        rows += [[name, size, *cost(one)] for name, one in costs.items() if name != "parameters"]
    of = f"whisper-{results['shape']}, a window of {results['window_s']} s, one thread" if results else "batch"
    yield from table(["algorithm", of, "seconds a step", "memory, GB"], rows)
    if results:
        one, two = results["ranks"]["seconds"]
        yield (
            f"\nTwo ranks of one thread, each with as many utterances as one alone: {one:.2f} and {two:.2f} s a step, "
            f"{results['ranks']['speedup']:.2f} times the utterances a second."
        )
    yield from found.source("growth")


def cost(one: Mapping[str, float]) -> list[str]:
    return [f"{one['seconds']:.2f}", f"{one['gigabytes']:.2f}"]


def large(found: Found) -> Lines:
    """What the algorithms declare to hold with 45 pairs of large-v3 on 8 GPUs."""
    from lightning_modules import algorithms

    parameters, head, pairs, gpus = 1_543e6, 51_866 * 1280, 45, 8
    rows = []
    for name, kind in algorithms.named():
        needs = kind().needs(pairs)
        extra = 4e-9 * (needs.parameter_copies * parameters + needs.head_copies * head)
        share = f"{extra / gpus:.1f} GB a GPU" if kind.supports_sharding else "no: needs ddp"
        rows.append([name, f"{needs.passes:g}", f"{extra:.1f}", share])
    yield from table(["algorithm", "passes over the batch", "GB beyond ERM's", "divided over 8 GPUs (fsdp)"], rows)


def window(name: str) -> str:
    """`8` is 8 s; the usual recipe knows no window."""
    return "Seq2SeqTrainer" if name == "recipe" else re.sub(r"^(\d+)s?$", r"\1 s", name)


def model_name(name: str) -> str:
    """Say of a shape that its weights are random."""
    shape, _, dtype = name.partition(", ")
    return (shape if "/" in shape else f"whisper-{shape}, random weights") + (dtype and f", {dtype}")


SECTIONS: dict[str, Callable[[Found], Lines]] = {
    made.__name__: made
    for made in (training, memory, decoding, algorithms, resuming, merging, features, startup, scoring, preparing,
                 windows, growth, large)
}  # fmt: skip


if __name__ == "__main__":
    main()

"""Splicing beside its rivals and ablations at equal budget: `python benchmarks/splicing.py --seeds 0 1 2 3 4`.

Every row is a command of train.py or merge.py (`--dry-run` prints them), run once for each seed into
`outputs/splicing/seed-S/`; what is there already is not made again, so that rows and seeds can be added. Then
evaluate.py scores all of them, and `outputs/splicing/table-test.md` holds means over the seeds with 95 % intervals,
and paired bootstraps over the utterances. `--on dev` scores the development sets by which options were chosen: those of
the seen pairs, and spliced ones of the unseen pairs that are made from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

ROOT = Path("outputs/splicing")
SEEN, UNSEEN, SINGLE = ("ko-en", "ja-en", "de-en"), ("ko-ja", "ko-de"), ("ko", "ja", "de", "en")
MANIFESTS = {pair: f"data/demo/{pair}/train.jsonl" for pair in (*SEEN, *UNSEEN, *SINGLE)}
SEEN_MANIFESTS = json.dumps([MANIFESTS[pair] for pair in SEEN])
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided, by the number of seeds
FOLDS = 2000


@dataclass(frozen=True)
class Row:
    """A model of every seed: options of train.py after its recipe, or of merge.py before its models' names."""

    group: str
    train: Sequence[str] = ()
    merge: Sequence[str] = ()
    of: Sequence[str] = ()
    tag: str = "matrix"


def spliced(recipe: str = "erm.yaml", **options: object) -> list[str]:
    """The options that splice, over a recipe."""
    given = [f"--data.splice.{name}={json.dumps(value)}" for name, value in options.items()]
    return ["--config", recipe, "--config", "splice.yaml", *given]


def pairs(**utterances: int) -> list[str]:
    """The options that train on these pairs with so many utterances a step."""
    named = {name.replace("_", "-"): count for name, count in utterances.items()}
    manifests = {pair: MANIFESTS[pair] for pair in named}
    return [
        f"--data.train={json.dumps(manifests)}",
        f"--data.pairs={json.dumps(list(named))}",
        f"--data.utterances_per_pair={json.dumps(named)}",
    ]


def one_pair(recipe: str) -> list[str]:
    """A pair's fine-tune that splices its frames with the other pairs' spans."""
    return spliced(recipe, sources=[MANIFESTS[pair] for pair in SEEN])


PAIR_RUNS = ["ko_en", "ja_en", "de_en"]
SPLICED_RUNS = [f"spliced_{name}" for name in PAIR_RUNS]
ROWS: dict[str, Row] = {
    "joint": Row("Joint", ["--config", "erm.yaml"]),
    "fish": Row("Joint", ["--config", "fish.yaml"]),
    "fishr": Row("Joint", ["--config", "fishr.yaml"]),
    "gga_l": Row("Joint", ["--config", "gga_l.yaml"]),
    "two_tag": Row("Joint", ["--config", "erm.yaml", "--data.language=two_tag"], tag="two_tag"),
    "ema": Row(
        "Joint",
        ["--config", "erm.yaml", "--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.98"],
    ),
    "concatenate": Row(
        "Joint",
        [
            *spliced(
                share={"ko": 1.0, "ja": 1.0, "de": 1.0},
                pattern="chain",
                spans=[2, 2],
                sources=[MANIFESTS[language] for language in ("ko", "ja", "de")],
            ),
            *pairs(ko_en=2, ja_en=2, de_en=2, ko=1, ja=1, de=1),
        ],
    ),
    **{f"wise_ft_{alpha}": Row("Merged", merge=["wise_ft", f"--alpha={alpha}"], of=["joint"]) for alpha in (0.5, 0.75)},
    **{name: Row("One pair", ["--config", f"{name}.yaml"]) for name in PAIR_RUNS},
    "average": Row("Merged", merge=["linear"], of=PAIR_RUNS),
    "task_arithmetic": Row("Merged", merge=["task_arithmetic"], of=PAIR_RUNS),
    "ties": Row("Merged", merge=["ties"], of=PAIR_RUNS),
    "dare_linear": Row("Merged", merge=["dare_linear"], of=PAIR_RUNS),
    "splice": Row("Spliced", spliced()),
    "splice_fishr": Row("Spliced", spliced("fishr.yaml")),
    "splice_two_tag": Row("Spliced", [*spliced(), "--data.language=two_tag"], tag="two_tag"),
    "splice_replay": Row("Spliced", [*spliced(), *pairs(ko_en=2, ja_en=2, de_en=2, ko=1, ja=1, de=1)]),
    **{name: Row("One pair, spliced", one_pair(f"{name.removeprefix('spliced_')}.yaml")) for name in SPLICED_RUNS},
    "splice_average": Row("Spliced", merge=["linear"], of=SPLICED_RUNS),
    "splice_wise_ft": Row("Spliced", merge=["wise_ft", "--alpha=0.75"], of=["splice"]),
    # Ablations: one thing of `splice` changed
    **{f"share_{share:g}": Row("Share", spliced(share=share)) for share in (0.25, 0.67, 0.8, 1.0)},
    "chain": Row("Pattern", spliced(pattern="chain")),
    "chain_2": Row("Pattern", spliced(pattern="chain", spans=[2, 2])),
    "matrix_first": Row("Pattern", spliced(matrix="first")),
    "matrix_second": Row("Pattern", spliced(matrix="second")),
    "no_loudness": Row("Sound", spliced(loudness=False)),
    "no_fade": Row("Sound", spliced(crossfade_s=0.0)),
    "fade_40ms": Row("Sound", spliced(crossfade_s=0.04)),
    "gap_50ms": Row("Sound", spliced(gap_s=0.05)),
    "listed": Row("Pairs", spliced(pairs=list(UNSEEN))),
    "two_pairs": Row("Pairs", [*spliced(), *pairs(ko_en=5, ja_en=4)]),
    "oracle": Row("Oracle", ["--config", "erm.yaml", *pairs(ko_ja=5, ko_de=4)]),
    "oracle_ko_ja": Row("Oracle", ["--config", "ko_ja.yaml"]),
    "oracle_ko_de": Row("Oracle", ["--config", "ko_de.yaml"]),
    "oracle_five": Row("Oracle", ["--config", "erm.yaml", *pairs(ko_en=2, ja_en=2, de_en=2, ko_ja=2, ko_de=1)]),
}


def command(name: str, seed: int) -> list[str]:
    """What makes a row's model of a seed."""
    row, folder = ROWS[name], ROOT / f"seed-{seed}"
    if row.train:
        here = ["--config", "demo.yaml", f"--output_root={folder}", f"--name={name}", f"--seed_everything={seed}"]
        recipe = [*row.train[:2], *here[:2], *row.train[2:]]  # the row's own options are over the demo's
        return ["train.py", *recipe, *here[2:], "--trainer.enable_progress_bar=false"]
    models = [str(folder / run / "model") for run in row.of]
    return [
        "merge.py",
        *row.merge,
        "--base",
        "models/demo-backbone",
        "--models",
        *models,
        "--out",
        str(model(name, seed)),
    ]


def model(name: str, seed: int) -> Path:
    """Where a row's model of a seed lies."""
    return ROOT / f"seed-{seed}" / name / ("model" if ROWS[name].train else "")


def with_parts(names: Sequence[str]) -> list[str]:
    """The rows and those that they are merged from, these first."""
    return list(dict.fromkeys(part for name in names for part in (*ROWS[name].of, name)))


def run(words: Sequence[str], log: Path) -> None:
    """Runs a script of the project on one core; what it prints goes into a log."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        code = subprocess.run([sys.executable, *words], stdout=stream, stderr=stream, env=environment).returncode
    if code:
        sys.exit(f"{shlex.join(words)} ended with {code}: see {log}")


def make(names: Sequence[str], seed: int, jobs: int) -> None:
    """Makes what is missing of a seed: first what is trained, then what is merged."""
    missing = [name for name in with_parts(names) if not (model(name, seed) / "config.json").is_file()]
    for kind in ("train", "merge"):
        with ThreadPoolExecutor(jobs) as pool:
            chosen = [name for name in missing if bool(ROWS[name].train) == (kind == "train")]
            logs = [ROOT / f"seed-{seed}" / "logs" / f"{name}.log" for name in chosen]
            list(pool.map(run, [command(name, seed) for name in chosen], logs))


def test_sets(split: str) -> dict[str, str]:
    """The test sets, or the development sets with spliced ones for the unseen pairs."""
    if split == "test":
        return {pair: f"data/demo/{pair}/test.jsonl" for pair in (*SEEN, *UNSEEN, *SINGLE)}
    seen = {pair: f"data/demo/{pair}/dev.jsonl" for pair in SEEN}
    folder = ROOT / "spliced-dev"
    if not (folder / UNSEEN[-1]).is_dir():
        options = ["--pairs", *UNSEEN, "--utterances", "64", "--window", "5", "--out", str(folder)]
        run(["prepare.py", "splice", *seen.values(), *options], ROOT / "spliced-dev.log")
    return seen | {pair: str(folder / pair / "spliced.jsonl") for pair in UNSEEN}


def score(names: Sequence[str], seed: int, split: str) -> dict[str, dict[str, dict[str, tuple[int, int]]]]:
    """Each row's errors and reference tokens by test set and utterance."""
    found: dict[str, dict[str, dict[str, tuple[int, int]]]] = {}
    for tag in sorted({ROWS[name].tag for name in names if name != "base"}):
        out = ROOT / f"seed-{seed}" / f"{split}-{tag}"
        options = {
            "out": str(out),
            "test": test_sets(split),
            "seen": list(SEEN),
            "unseen": list(UNSEEN),
            "language": tag,
            "batch_size": 100,
            "models": [{"name": n, "path": str(model(n, seed))} for n in names if n != "base" and ROWS[n].tag == tag],
        }
        if tag == "matrix":
            options["models"].insert(0, {"name": "base", "path": "models/demo-backbone"})
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluate.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
        run(["evaluate.py", "--config", str(out / "evaluate.yaml")], out / "evaluate.log")
        with (out / "hypotheses.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                errors = row["substitutions"] + row["deletions"] + row["insertions"]
                tokens = row["hits"] + row["substitutions"] + row["deletions"]
                found.setdefault(row["model"], {}).setdefault(row["set"], {})[row["id"]] = (errors, tokens)
    return found


Scores = dict[str, dict[str, np.ndarray]]  # by row and test set: errors and tokens (seeds, utterances, 2)


def stacked(by_seed: Sequence[dict[str, dict[str, dict[str, tuple[int, int]]]]]) -> Scores:
    """The scores of all seeds, utterances in one order."""
    return {
        name: {
            of: np.array([[seed[name][of][id] for id in sorted(by_seed[0][name][of])] for seed in by_seed])
            for of in by_seed[0][name]
        }
        for name in by_seed[0]
    }


def average(
    scores: dict[str, np.ndarray], sets: Sequence[str], rows: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """The mean over test sets of the error rate, in per cent, for each seed; of drawn utterances where given."""
    rates = []
    for of in sets:
        drawn = scores[of] if rows is None else scores[of][:, rows[of]]
        errors, tokens = drawn.sum(1).T
        rates.append(100 * errors / tokens)
    return np.mean(rates, axis=0)


def cell(values: np.ndarray) -> str:
    """A mean over seeds with half of its 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    half = T_95.get(len(values), 2.776) * statistics.stdev(values) / len(values) ** 0.5
    return f"{values.mean():.1f} ± {half:.1f}"


def difference(scores: Scores, name: str, other: str, sets: Sequence[str]) -> str:
    """The mean difference of two rows, with a paired bootstrap's 95 % interval over utterances and seeds."""
    random = np.random.default_rng(0)
    draws = []
    for _ in range(FOLDS):
        rows = {of: random.integers(0, scores[name][of].shape[1], scores[name][of].shape[1]) for of in sets}
        seeds = random.integers(0, len(scores[name][sets[0]]), len(scores[name][sets[0]]))
        gap = average(scores[name], sets, rows) - average(scores[other], sets, rows)
        draws.append(gap[seeds].mean())
    low, high = np.percentile(draws, [2.5, 97.5])
    mean = (average(scores[name], sets) - average(scores[other], sets)).mean()
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def table(scores: Scores, names: Sequence[str], split: str) -> str:
    """A Markdown table: error rates in per cent."""
    groups = {"seen": SEEN, "unseen": UNSEEN} | ({"single languages": SINGLE} if split == "test" else {})
    columns = [*SEEN, *UNSEEN]
    lines = [
        f"| Group | Row | {' | '.join(groups)} | {' | '.join(columns)} |",
        f"|---|---|{'---:|' * (len(groups) + len(columns))}",
    ]
    for name in ["base", *names]:
        cells = [cell(average(scores[name], sets)) for sets in groups.values()]
        cells += [f"{average(scores[name], [pair]).mean():.1f}" for pair in columns]
        lines.append(f"| {ROWS[name].group if name in ROWS else 'Base'} | {name} | {' | '.join(cells)} |")
    lines += ["", "| Paired difference | seen | unseen |" + (" single languages |" if split == "test" else "")]
    lines += ["|---|---:|---:|" + ("---:|" if split == "test" else "")]
    for other in ("joint", "oracle", "splice"):
        for name in names if other in names else ():
            if name != other and (other == "joint" or ROWS[name].group not in ("One pair", "One pair, spliced")):
                gaps = [difference(scores, name, other, sets) for sets in groups.values()]
                lines.append(f"| {name} − {other} | {' | '.join(gaps)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Makes, scores and tabulates the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--on", choices=["test", "dev"], default="test")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, a core each")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    given = parser.parse_args()
    if given.dry_run:
        for seed in given.seeds:
            print("\n".join("python " + shlex.join(command(name, seed)) for name in with_parts(given.rows)))
        return
    by_seed = []
    for seed in given.seeds:
        make(given.rows, seed, given.jobs)
        by_seed.append(score(given.rows, seed, given.on))
    text = table(stacked(by_seed), given.rows, given.on)
    (ROOT / f"table-{given.on}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

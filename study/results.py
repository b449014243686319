"""RESULTS.md: a study's figures with the commands, machine, time and versions that made them."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path

from common.errors import UserError
from common.files import atomic_file, write_text
from scoring import escape
from scoring.table import to_markdown
from study.claims import claims
from study.collect import Collected
from study.table import beside_the_paper, study_table
from study.times import Job, busy_s, jobs

FIGURES = {
    "rates.png": "Error rates on seen and unseen pairs, by model",
    "rows_changed.png": "Rows changed by fine-tuning, by layer and module",
    "cosines.png": "Cosine between the pairs' task vectors",
    "sign_conflicts.png": "Sign conflict between the pairs' task vectors, by layer and module",
}
_MINIATURE = Path(__file__).parent / "miniature.md"


def write_results(collected: Collected, out: Path) -> None:
    """Writes the page and copies its figures to `docs/figures` beside it.

    Raises:
        UserError: where a figure is missing.
    """
    study = collected.study
    first = Path(study.folder(study.seeds[0]))
    for name in FIGURES:
        source = (Path(study.summary) if name == "rates.png" else first / "analysis") / name
        if not source.is_file():
            raise UserError(f"{source}: is missing; the study is not through, run its workflow again")
        with atomic_file(out.parent / "docs/figures" / name) as partial:
            shutil.copyfile(source, partial)
    write_text(out, "\n".join([*_head(collected), *_figures(), *_picture(collected), *_made(collected)]))


def _head(collected: Collected) -> list[str]:
    seeds = ", ".join(map(str, collected.study.seeds))
    micro, micro_rows, macro, macro_rows = to_markdown(study_table(collected)).strip().split("\n\n")
    return [
        "# Results",
        "",
        "The study in miniature, `configs/study/demo.yaml`: synthetic speech, a Whisper of 1.4 M parameters, seeds "
        f"{seeds}.",
        "`make results` wrote this page out of what the study left; no figure is typed in.",
        "",
        f"{micro}.",
        "",
        *micro_rows.splitlines(),
        "",
        f"<details><summary>{macro}</summary>",
        "",
        *macro_rows.splitlines(),
        "",
        "</details>",
        "",
        *beside_the_paper(collected).splitlines(),
        "",
    ]


def _figures() -> list[str]:
    lines = ["## Figures", ""]
    for name, title in FIGURES.items():
        lines += [f"![{title}](docs/figures/{name})", ""]
    return lines


def _picture(collected: Collected) -> list[str]:
    lines = [
        "## The paper's picture, and what of it shows here",
        "",
        "Per cent and points of the mixed error rate, micro, means over the seeds. A statement is counted over the "
        "seeds; those on fine-tunes over their cases, a case being a model on a pair in all seeds.",
        "",
        "| Statement | Here | Holds |",
        "|---|---|---|",
    ]
    for claim in claims(collected):
        cells = (escape.markdown(text) for text in (claim.statement, claim.found, claim.verdict))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *_MINIATURE.read_text(encoding="utf-8").splitlines(), ""]


def _made(collected: Collected) -> list[str]:
    study, measured = collected.study, jobs(collected.study)
    runs = [json.loads((Path(folder) / run / "run.json").read_text()) for folder in study.folders for run in study.runs]
    versions = collected.versions | {name: of for run in runs for name, of in run["versions"].items()}
    commits = sorted({str(run["commit"]) for run in runs})
    return [
        "## How it was made",
        "",
        "```",
        "make study-demo    # the five seeds; make demo: seed 0 alone",
        "make results       # this page",
        "```",
        "",
        f"- Machine: {_machine()}.",
        f"- Time: {busy_s(measured) / 60:.0f} minutes in which at least one of {len(measured)} jobs ran, by stage:",
        "",
        "| Stage | Jobs | Seconds a job | Minutes in all | Memory (MB, most) |",
        "|---|---:|---:|---:|---:|",
        *(_stage(name, of) for name, of in _stages(measured).items()),
        "",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.",
        f"- Commit: {', '.join(f'`{commit}`' for commit in commits)}.",
        "",
    ]


def _stages(measured: list[Job]) -> dict[str, list[Job]]:
    titles = {"corpus": "corpora", "train": "fine-tunes", "evaluate": "evaluation", "analyze": "analysis"}
    stages: dict[str, list[Job]] = {}
    for job in measured:
        stages.setdefault(titles.get(job.name.split("_")[0], "merges"), []).append(job)
    return stages


def _stage(name: str, of: list[Job]) -> str:
    seconds = [job.seconds for job in of]
    spread = f"{min(seconds):.0f}–{max(seconds):.0f}" if len(of) > 1 else f"{seconds[0]:.0f}"
    return f"| {name} | {len(of)} | {spread} | {sum(seconds) / 60:.1f} | {max(job.memory_mb for job in of):.0f} |"


def _machine() -> str:
    """Processor, cores and memory of this machine, as far as it tells them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = [line for line in _text("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    name = names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
    return f"{cores} cores ({name}), {memory:.0f} GB, {platform.system()}"


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""

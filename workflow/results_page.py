"""RESULTS.md: the figures of studies with the commands, machine, time and versions that made them."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.files import atomic_file, write_text
from scoring import escape
from scoring.table import to_markdown
from workflow.collect import Collected
from workflow.differences import differences
from workflow.plan import Study
from workflow.study_table import beside_the_paper, study_table, to_differences
from workflow.times import Job, busy_s, jobs

RATES = "Error rates on seen and unseen pairs, by model"
ANALYSIS = {
    "rows_changed.png": "Rows changed by fine-tuning, by layer and module",
    "cosines.png": "Cosine between the pairs' task vectors",
    "sign_conflicts.png": "Sign conflict between the pairs' task vectors, by layer and module",
}
_MINIATURE = Path(__file__).parent / "miniature.md"


def write_results(collected: Sequence[Collected], out: Path) -> None:
    """Write the page of a study, others being sections of it, and copy all figures to `docs/figures` beside it.

    Raises:
        UserError: where a figure is missing.
    """
    first, *others = collected
    lines = [
        *_head(first),
        "## Figures",
        "",
        *_figures(first, out),
        *_MINIATURE.read_text(encoding="utf-8").splitlines(),
    ]
    for other in others:
        lines += ["", *_section(other, out)]
    write_text(out, "\n".join([*lines, "", *_made(collected)]))


def _head(collected: Collected) -> list[str]:
    seeds = ", ".join(map(str, collected.study.seeds))
    return [
        "# Results",
        "",
        "The study in miniature, `configs/study/demo.yaml`: synthetic speech, a Whisper of 1.4 M parameters, seeds "
        f"{seeds}.",
        "`make results` wrote this page from the study's output; no figure is typed in.",
        "",
        *_tables(collected),
    ]


def _section(collected: Collected, out: Path) -> list[str]:
    """The section of a further study."""
    study = collected.study
    name = study.name or Path(study.root).name
    return [
        f"## {name.replace('-', ' ').capitalize()}",
        "",
        *([escape.markdown(study.about), ""] if study.about else []),
        f"`configs/study/{name}.yaml`, seeds {', '.join(map(str, study.seeds))}.",
        "",
        *_tables(collected),
        *_figures(collected, out),
    ]


def _tables(collected: Collected) -> list[str]:
    micro, micro_rows, *others = to_markdown(study_table(collected)).strip().split("\n\n")
    return [
        f"{micro}.",
        "",
        *micro_rows.splitlines(),
        "",
        *(
            line
            for caption, rows in zip(others[::2], others[1::2], strict=True)
            for line in (f"<details><summary>{caption}</summary>", "", *rows.splitlines(), "", "</details>", "")
        ),
        *beside_the_paper(collected).splitlines(),
        "",
        *to_differences(differences(collected)).splitlines(),
        "",
    ]


def _figures(collected: Collected, out: Path) -> list[str]:
    """Copy the study's figures beside the page, and return the lines that show them."""
    study, lines = collected.study, []
    sources = {Path(study.summary, "rates.png"): RATES}
    for name, curve in study.curves.items():
        sources[Path(study.summary, f"curve_{name}.png")] = f"Error rate, {curve.of}, against {curve.axis}"
    if study.analyzed_runs:
        sources |= {Path(study.folder(study.seeds[0]), "analysis", name): title for name, title in ANALYSIS.items()}
    for source, title in sources.items():
        if not source.is_file():
            raise UserError(f"{source}: is missing; the study is not complete, run its workflow again")
        place = f"docs/figures/{study.tag}{source.name}"
        with atomic_file(out.parent / place) as partial:
            shutil.copyfile(source, partial)
        lines += [f"![{title}]({place})", ""]
    return lines


def _made(collected: Sequence[Collected]) -> list[str]:
    studies = [one.study for one in collected]
    folders = {Path(folder, run) for study in studies for folder in study.folders for run in study.runs}
    runs = [json.loads((folder / "run.json").read_text()) for folder in sorted(folders)]
    versions = collected[0].versions | {name: of for run in runs for name, of in run["versions"].items()}
    commits = sorted({str(run["commit"]) for run in runs})
    lines = ["## How it was made", "", "```", *_commands(studies), "```", "", f"- Machine: {_machine()}."]
    for study in studies:
        measured = jobs(study)
        named = f" of {study.name}" if study.name else ""
        lines += [
            f"- Time{named}: {busy_s(measured) / 60:.0f} minutes in which at least one of {len(measured)} jobs ran, "
            "by stage:",
            "",
            "| Stage | Jobs | Seconds a job | Minutes in all | Memory (MB, most) |",
            "|---|---:|---:|---:|---:|",
            *(_stage(name, of) for name, of in _stages(measured).items()),
            "",
        ]
    return [
        *lines,
        f"- Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.",
        f"- Commit: {', '.join(f'`{commit}`' for commit in commits)}.",
        "",
    ]


def _commands(studies: Sequence[Study]) -> list[str]:
    commands = ["make study-demo    # the five seeds; make demo: seed 0 alone"]
    for study in studies[1:]:
        seeds = str(study.seeds).replace(" ", "")
        commands.append(f"python -m workflow run configs/study/{study.name}.yaml --cores 2 --config 'seeds={seeds}'")
    if len(studies) == 1:
        return [*commands, "make results       # this page"]
    files = " ".join(f"{study.summary}/study.yaml" for study in studies)
    return [*commands, f"python -m workflow results {files}    # this page"]


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

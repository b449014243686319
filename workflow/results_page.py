"""RESULTS.md: the figures of studies with the commands, machine, time and versions that made them."""

import json
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import atomic_file, write_text
from scoring import escape
from scoring.table import to_markdown
from workflow.collect import Collected, finished
from workflow.differences import differences
from workflow.study_table import grids, study_table
from workflow.times import Job, busy_s, jobs

RATES = "Error rates on seen and unseen pairs, by model"
ANALYSIS = {
    "rows_changed.png": "Rows changed by fine-tuning, by layer and module",
    "cosines.png": "Cosine between the pairs' task vectors",
    "sign_conflicts.png": "Sign conflict between the pairs' task vectors, by layer and module",
}
STAGES = {"corpus": "corpora", "train": "fine-tunes", "evaluate": "evaluation", "analyze": "analysis"}
_PAGE = Path(__file__).parent / "page/results.md"


def write_results(collected: Sequence[Collected], out: Path) -> None:
    """Write the page of a study, others being sections of it, and copy all figures to `docs/figures` beside it.

    Raises:
        UserError: where a figure is missing.
    """
    folders = {Path(folder, run) for one in collected for folder in one.study.folders for run in one.study.runs}
    runs = [json.loads((folder / "run.json").read_text()) for folder in sorted(folders)]
    versions = collected[0].versions | {name: version for run in runs for name, version in run["versions"].items()}
    page = escape.template(_PAGE).render(
        sections=[_section(one, out) for one in collected],
        machine=_machine(),
        versions=sorted(versions.items()),
        commits=sorted({str(run["commit"]) for run in runs}),
    )
    write_text(out, page)


def _section(collected: Collected, out: Path) -> dict[str, Any]:
    study, measured = collected.study, jobs(collected.study)
    parts = to_markdown(study_table(collected)).strip().split("\n\n")
    stages: dict[str, list[Job]] = {}
    for job in measured:
        stages.setdefault(STAGES.get(job.name.split("_")[0], "merges"), []).append(job)
    return {
        "study": study,
        "name": study.name or Path(study.root).name,
        "about": escape.markdown(" ".join(study.about.split())),
        "tables": list(zip(parts[::2], parts[1::2], strict=True)),
        "grids": grids(collected, differences(collected)),
        "figures": _figures(collected, out),
        "busy_s": busy_s(measured),
        "stages": stages,
    }


def _figures(collected: Collected, out: Path) -> list[tuple[str, str]]:
    """Copy the study's figures beside the page, and return each one's title and place."""
    study, figures = collected.study, []
    sources = [(RATES, Path(study.summary, "rates.png"))]
    for name, curve in study.curves.items():
        title = f"Error rate, {curve.of}, against {curve.axis}"
        sources.append((title, Path(study.summary, f"curve_{name}.png")))
    if study.analyze.of:
        analysis = Path(study.folder(study.seeds[0]), "analysis")
        sources += [(title, analysis / name) for name, title in ANALYSIS.items()]
    for title, source in sources:
        place = f"docs/figures/{study.tag}{source.name}"
        with atomic_file(out.parent / place) as partial:
            shutil.copyfile(finished(source), partial)
        figures.append((title, place))
    return figures


def _machine() -> str:
    """Return processor, cores and memory of this machine, as far as its system names them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{cores} cores ({name}), {memory:.0f} GB, {platform.system()}"

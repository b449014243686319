"""RESULTS.md: the figures of studies with the commands, machine, time and versions that made them.

A study is a section. Writing one leaves the sections of other studies on the page, which may have taken days on another
machine.
"""

import csv
import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.escape import template
from common.files import atomic_file, write_text
from common.input_files import read_text
from common.json_lines import read_object
from scoring.table import to_markdown
from workflow.collect import Collected, differences, finished
from workflow.plan import Study
from workflow.study_table import grids, study_table

RATES = "Error rates on seen and unseen pairs, by model"
ANALYSIS = {
    "rows_changed.png": "Rows changed by fine-tuning, by layer and module",
    "cosines.png": "Cosine between the pairs' task vectors",
    "sign_conflicts.png": "Sign conflict between the pairs' task vectors, by layer and module",
}
STAGES = {"corpus": "corpora", "train": "fine-tunes", "evaluate": "evaluation", "analyze": "analysis"}
_PAGES = Path(__file__).parent / "page"
_SECTION = re.compile(r"^<!-- study (\S+) -->\n", re.MULTILINE)


def write_results(collected: Sequence[Collected], out: Path) -> None:
    """Write a section a study, in this order, above those of other studies that the page has.

    All figures are copied to `docs/figures` beside the page.

    Raises:
        UserError: where a figure is missing.
    """
    sections = {one.study.label: _section(one, out) for one in collected}
    if out.is_file():
        _, *before = _SECTION.split(read_text(out))
        sections |= {name: text for name, text in zip(before[::2], before[1::2], strict=True) if name not in sections}
    head = (_PAGES / "results.md").read_text(encoding="utf-8")
    bodies = [f"<!-- study {name} -->\n{text.strip()}\n" for name, text in sections.items()]
    write_text(out, "\n".join([head, *bodies]))


def _section(collected: Collected, out: Path) -> str:
    study, measured = collected.study, jobs(collected.study)
    parts = to_markdown(study_table(collected)).strip().split("\n\n")
    stages: dict[str, list[Job]] = {}
    for job in measured:
        stages.setdefault(STAGES.get(job.name.split("_")[0], "merges"), []).append(job)
    runs = [read_object(finished(Path(folder, run, "run.json"))) for folder in study.folders for run in study.runs]
    versions = collected.versions | {name: version for run in runs for name, version in run["versions"].items()}
    notes = _PAGES / f"{study.label}.md"
    return template(_PAGES / "study.md").render(
        study=study,
        about=" ".join(study.about.split()),
        tables=list(zip(parts[::2], parts[1::2], strict=True)),
        grids=grids(collected, differences(collected)),
        figures=_figures(collected, out),
        notes=notes.read_text(encoding="utf-8") if notes.is_file() else "",
        busy_s=busy_s(measured),
        stages=stages,
        machine=_machine(),
        versions=sorted(versions.items()),
        commits=sorted({str(run["commit"]) for run in runs}),
    )


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
        place = f"docs/figures/{study.label}_{source.name}"
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


@dataclass(frozen=True)
class Job:
    """A job: its name, its wall time and when it ended (both in seconds), and the most memory it used."""

    name: str
    seconds: float
    ended: float
    memory_mb: float


def jobs(study: Study) -> list[Job]:
    """Return all measured jobs of the study, also those that ran as part of another study of the same root."""
    of_seed = [f"train_{run}" for run in study.runs]
    of_seed += [*study.merges, f"{study.tag}evaluate", *(["analyze"] if study.analyze.of else [])]
    files = [Path(study.root, "benchmarks", f"corpus_{Path(folder).name}.tsv") for folder in study.corpora]
    files += [Path(folder, "benchmarks", f"{job}.tsv") for folder in study.folders for job in of_seed]
    return [_job(file, study.tag) for file in files if file.is_file()]


def busy_s(of: list[Job]) -> float:
    """Return the seconds in which at least one job ran: the wall time without the study's interruptions."""
    total, until = 0.0, 0.0
    for start, end in sorted((job.ended - job.seconds, job.ended) for job in of):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _job(file: Path, tag: str) -> Job:
    with file.open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream, delimiter="\t"))
    name, ended = file.stem.removeprefix(tag), file.stat().st_mtime
    memory_mb = 0.0 if row["max_rss"] in ("-", "NA") else float(row["max_rss"])
    return Job(name, float(row["s"]), ended, memory_mb)

"""The time and memory of a study's jobs, as Snakemake measured them."""

import csv
from dataclasses import dataclass
from pathlib import Path

from workflow.plan import Study


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

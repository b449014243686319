"""Runs a study's workflow, and sums it up over its seeds.

python -m workflow run configs/study/demo.yaml --cores 2        # further options are Snakemake's
python -m workflow show outputs/demo/study/study.yaml
python -m workflow results outputs/demo/study-5-seeds/study.yaml --out RESULTS.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.configs import read_yaml
from common.errors import run_script
from common.options import Command, option, parse
from workflow.plan import Study

if TYPE_CHECKING:
    from workflow.collect import Collected


@dataclass(frozen=True)
class OneStudy:
    """The study."""

    study: Path = option(positional=True, metavar="STUDY.yaml")
    """Its file, in configs/study/, or the one that it left."""


@dataclass(frozen=True)
class ResultsOptions:
    """The page."""

    studies: list[Path] = option(positional=True, metavar="STUDY.yaml")
    """The studies' files; each is a section, above those of other studies that the page has."""
    out: Path = Path("RESULTS.md")
    """The page's file."""


def _collected(file: Path) -> Collected:
    from workflow.collect import collect

    return collect(Study(read_yaml(file)))


def _show(options: OneStudy) -> None:
    from workflow.study_page import show_study

    show_study(_collected(options.study))


def _summary(options: OneStudy) -> None:
    from workflow.study_page import write_summary

    write_summary(_collected(options.study))


def _results(options: ResultsOptions) -> None:
    from workflow.results_page import write_results

    write_results(list(map(_collected, options.studies)), options.out)


RUN = Command("run", "Run Snakemake on a study, as soon as no earlier call works on it.", OneStudy)
COMMAND = Command(
    "python -m workflow",
    __doc__ or "",
    commands=(
        RUN,
        Command("show", "Print the table, and where everything is.", OneStudy, _show),
        Command("results", "Write the sections of studies on a page of results.", ResultsOptions, _results),
        Command("summary", "Write tables, figures and page: the workflow's last step.", OneStudy, _summary),
    ),
)


def main() -> None:
    """Read the study's file, then run it or read what it left."""
    words, others = sys.argv[1:], []
    if words[:1] == [RUN.name] and words[1:2] != ["--help"]:
        words, others = words[:2], words[2:]  # Snakemake's own
    parsed = parse(COMMAND, words)
    if parsed.command is RUN:
        from workflow.run_study import run

        run(Study(read_yaml(parsed.options.study)), parsed.options.study, others)
    parsed.command.run(parsed.options)


if __name__ == "__main__":
    run_script(main)

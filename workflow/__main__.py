"""Runs a study's workflow, and sums it up over its seeds.

python -m workflow run configs/study/demo.yaml --cores 2     # snakemake, once no earlier call is at work
python -m workflow show outputs/demo/study/study.yaml        # the table, and where everything is
python -m workflow results outputs/demo/study-5-seeds/study.yaml --out RESULTS.md     # further files: further sections
python -m workflow summary outputs/demo/study/study.yaml     # tables, figure and page: the workflow's last step
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.configs import read_yaml
from common.errors import run_script
from workflow.plan import Study


def parse() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what is left for Snakemake."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "show", "results", "summary"])
    parser.add_argument("study", type=Path, help="the study's file; of results: more files are sections")
    parser.add_argument("--out", type=Path, default=Path("RESULTS.md"), help="of results (default: %(default)s)")
    options, rest = parser.parse_known_args()  # of run: all of it is Snakemake's
    unknown = [word for word in rest if options.command != "results" or word.startswith("-")]
    if unknown and options.command != "run":
        parser.error(f"{options.command} takes no {unknown[0]}")
    return options, rest


def main() -> None:
    """Reads the study's file, then runs it or reads what it left."""
    options, rest = parse()
    study = Study(read_yaml(options.study))
    if options.command == "run":
        from workflow.run_study import run

        run(study, options.study, rest)

    from workflow.collect import collect

    collected = collect(study)
    if options.command == "show":
        from workflow.study_terminal import show

        show(collected)
    elif options.command == "results":
        from workflow.results_page import write_results

        write_results([collected, *(collect(Study(read_yaml(Path(file)))) for file in rest)], options.out)
    else:
        from workflow.study_summary import write_summary

        write_summary(collected)


if __name__ == "__main__":
    run_script(main)

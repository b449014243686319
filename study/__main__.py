"""Sums a study up over its seeds: table, figure and page, or RESULTS.md.

python -m study summary outputs/demo/study/study.yaml     # what the workflow calls at its end
python -m study show outputs/demo/study/study.yaml        # the table, and where everything is
python -m study results outputs/demo/study-5-seeds/study.yaml --out RESULTS.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import run_script
from study.plan import Study
from study.settings import read_yaml


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["summary", "show", "results"])
    parser.add_argument("study", type=Path, help="the study's file")
    parser.add_argument("--out", type=Path, default=Path("RESULTS.md"), help="of results (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Reads the study's file and figures, and writes or shows them."""
    arguments = parse()
    study = Study(read_yaml(arguments.study))

    from study.collect import collect

    collected = collect(study)
    if arguments.command == "show":
        from study.terminal import show

        show(collected)
    elif arguments.command == "results":
        from study.results import write_results

        write_results(collected, arguments.out)
    else:
        from study.summary import write_summary

        write_summary(collected)


if __name__ == "__main__":
    run_script(main)

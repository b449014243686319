"""Turns corpora into manifests: `python prepare.py <corpus> --source PATH_OR_HUB_ID [--out DIR]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import run_script


def parser() -> argparse.ArgumentParser:
    """The command line: one command a reader found in `datamodules.readers`, and the demo's."""
    top = argparse.ArgumentParser(prog="prepare.py", description="Turns corpora into manifests, and checks them.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="small corpora spoken by espeak-ng; needs the extra: pip install '.[demo]'")
    demo.add_argument("--out", type=Path, default=Path("data/demo"), help="output folder (default: %(default)s)")
    demo.set_defaults(run=run_demo)
    return top


def run_demo(args: argparse.Namespace) -> int:
    """Synthesises the demo's corpora."""
    from datamodules.synthesis.corpora import write_demo

    write_demo(args.out, progress=True)
    return 0


def main() -> int:
    """Parses the command line and runs its command."""
    args = parser().parse_args()
    return args.run(args)


if __name__ == "__main__":
    run_script(main)

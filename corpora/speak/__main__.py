"""`python -m corpora.speak OUT [--backbone N]`: makes the demo's speech."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError, run_script


def main() -> None:
    """Makes the demo's corpora, or the backbone's monolingual training set."""
    parser = argparse.ArgumentParser(prog="python -m corpora.speak", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that gets a subfolder a corpus")
    parser.add_argument("--backbone", type=int, metavar="N", help="instead, N training utterances of each language")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()

    from corpora.speak import demo_corpora as corpora

    if options.backbone is None:
        corpora.write_demo(options.out, progress=not options.quiet)
    elif options.backbone > 0:
        corpora.write_backbone(options.out, options.backbone, progress=not options.quiet)
    else:
        raise UserError(f"--backbone is {options.backbone}, expected a number of utterances above 0")


if __name__ == "__main__":
    run_script(main)

"""Turns corpora into manifests, and checks them: `python prepare.py <corpus> --source PATH_OR_HUB_ID [--out DIR]`.

docs/corpora.md says where each corpus can be had, under which licence, and what comes out.

python prepare.py demo
python prepare.py cs_fleurs
python prepare.py folder --help
python prepare.py check data/*/
"""

from common.options import Command, main
from corpora.prepare_commands import commands

PREPARE = Command("prepare.py", __doc__ or "", commands=list(commands()))

if __name__ == "__main__":
    main(PREPARE)

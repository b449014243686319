"""Merges fine-tunes of one Whisper into one model: `python merge.py ties --help`."""

from common.errors import run_script
from merging.command import main

if __name__ == "__main__":
    run_script(main)

"""`python -m scoring`: scores transcripts of any system."""

from __future__ import annotations

import argparse
import json

from common.errors import UserError, run_script


def main() -> int:
    """Parse the arguments, scores, and prints."""
    arguments = _parser().parse_args()
    # Here, so that --help does not wait for them.
    from rich.console import Console

    from scoring.results import score_set, to_dict
    from scoring.summary import summary
    from scoring.transcript_files import read_json_lines, read_texts

    languages = tuple(arguments.languages.lower().split("-")) if arguments.languages else None
    if arguments.hypotheses:
        transcripts = read_texts(arguments.references, arguments.hypotheses, languages)
    elif arguments.references.endswith((".jsonl", ".json")):
        transcripts = read_json_lines(arguments.references, languages)
    else:
        raise UserError(f"{arguments.references}: name the hypotheses too, or one .jsonl file that holds both")
    result = score_set(transcripts, arguments.profile)
    if arguments.json:
        print(json.dumps(to_dict(result), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        Console().print(summary(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scoring",
        description="Mixed error rate of code-switched transcripts, with its interval and where the errors are.",
    )
    parser.add_argument("references", help="a reference a line; or a .jsonl with the fields reference and hypothesis")
    parser.add_argument("hypotheses", nargs="?", help="a hypothesis a line, empty lines for empty ones")
    parser.add_argument(
        "--profile",
        default="cjk",
        help="cjk (default: Hangul, kanji and kana by character, all else by word), hike, wer, cer",
    )
    parser.add_argument(
        "--languages", metavar="ko-en", help="the languages spoken, matrix language first; without them, by script only"
    )
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    return parser


if __name__ == "__main__":
    run_script(main)

"""Mixed error rate of code-switched transcripts of any system, with its interval and where the errors are.

python -m scoring references.txt hypotheses.txt --languages ko-en
python -m scoring transcripts.jsonl --json
"""

from dataclasses import dataclass

from common.errors import UserError
from common.options import Command, main, option
from common.printing import console, show


@dataclass(frozen=True)
class ScoringOptions:
    """What is scored."""

    references: str = option(positional=True, metavar="REFERENCES")
    """A text file, a reference a line; or a .jsonl with the fields reference and hypothesis."""
    hypotheses: str | None = option(None, positional=True, metavar="HYPOTHESES")
    """A text file, a hypothesis a line, empty lines for empty ones."""
    profile: str = "cjk"
    """How transcripts are cut: cjk (Hangul, kanji and kana by character, all else by word), hike, wer, cer."""
    languages: str | None = option(None, metavar="ko-en", shown_default="none: errors are told apart by script only")
    """The languages spoken, matrix language first."""
    json: bool = False
    """Print every figure as JSON."""


def run(options: ScoringOptions) -> None:
    """Score, and print."""
    # Here, so that --help does not wait for them.
    from common.escape import json_text
    from scoring.results import score_set, to_dict
    from scoring.summary import summary
    from scoring.transcript_files import read_json_lines, read_texts

    languages = tuple(options.languages.lower().split("-")) if options.languages else None
    if options.hypotheses:
        transcripts = read_texts(options.references, options.hypotheses, languages)
    elif options.references.endswith((".jsonl", ".json")):
        transcripts = read_json_lines(options.references, languages)
    else:
        raise UserError(f"{options.references}: name the hypotheses too, or one .jsonl file that holds both")
    result = score_set(transcripts, options.profile)
    if options.json:
        show(*json_text(to_dict(result), indent=2).split("\n"))
    else:
        console().print(summary(result))


SCORING = Command("python -m scoring", __doc__ or "", ScoringOptions, run)

if __name__ == "__main__":
    main(SCORING)

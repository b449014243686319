"""`python -m corpora.speak OUT [--backbone N]`: makes the demo's speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.option_types import Count
from common.options import Command, main, option


@dataclass(frozen=True)
class DemoSpeechOptions:
    """What is spoken."""

    out: Path = option(positional=True, metavar="OUT")
    """Folder that gets a subfolder for each corpus."""
    backbone: Count | None = option(None, shown_default="the demo's corpora")
    """Make, instead, N training utterances of each language."""
    quiet: bool = False
    """Show no progress bar."""


def run(options: DemoSpeechOptions) -> None:
    """Make the demo's corpora, or the backbone's monolingual training set."""
    from corpora.speak import demo_corpora as corpora

    if options.backbone is None:
        corpora.write_demo(options.out, progress=not options.quiet)
    else:
        corpora.write_backbone(options.out, options.backbone, progress=not options.quiet)


SPEAK = Command("python -m corpora.speak", "Makes the demo's speech.", DemoSpeechOptions, run)

if __name__ == "__main__":
    main(SPEAK)

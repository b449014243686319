"""The options of `prepare.py speak`, and what it does with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from common.constants import MOST_PROCESSES
from common.errors import UserError
from common.option_types import Range, Seed
from common.options import option
from common.printing import show

OWN_LICENCE = "Apache-2.0 (sentences)"
OWN_ORDER = ("ko-en", "ja-en", "de-en", "parallel", "ko-ja", "ko-de")  # what is spoken first

_Some = Annotated[int, Range(1, 10_000)]


@dataclass(frozen=True)
class Sentences:
    """Sentences."""

    sets: list[Path] = option([], positional=True, metavar="FILE", shown_default="the project's own six sets")
    """Sentence sets: .jsonl files, or plain text with a sentence a line."""

    language: str | None = None
    """Language of plain text, such as de."""

    split: Literal["train", "dev", "test"] = "train"
    """Split of plain text."""

    corpora: list[str] | None = option(None, metavar="NAME", shown_default="all")
    """Speak only these corpora of the sets, such as ko-en or de."""

    licence: str | None = option(None, shown_default="Apache-2.0 for the project's own")
    """Licence of the sentences, for the manifests."""


@dataclass(frozen=True)
class Voices:
    """Voices."""

    engine: Literal["kokoro", "espeak"] = "kokoro"
    """What speaks: a neural voice, or espeak-ng."""

    speakers: _Some | None = option(None, shown_default="as many as the recorded corpus has, else 8")
    """Training speakers of each corpus."""

    test_speakers: _Some | None = option(None, shown_default="likewise, else 4")
    """Speakers of the test sentences of each corpus."""

    seed: Seed = 0
    """Of the speakers and their speeds."""


@dataclass(frozen=True)
class SpeakOptions(Sentences, Voices):
    """Audio."""

    out: Path = Path("data/spoken")
    """Output folder; gets a folder a corpus."""

    audio: Literal["flac", "opus"] = "flac"
    """Format of the audio files: without loss, or Ogg Opus."""

    bit_rate: Annotated[int, Range(6_000, 256_000)] = 16_000
    """Bits a second of Opus, about."""

    longest: Annotated[float, Range(0, 30, above=True)] = 30.0
    """Seconds; a sentence that comes out longer is an error."""

    processes: Annotated[int, Range(1, MOST_PROCESSES)] | None = option(None, shown_default="one a core")
    """Processes side by side."""


def speak(options: SpeakOptions) -> int:
    """Speak the sentences and print what the corpora hold."""
    from corpora.manifest_counts import describe
    from corpora.speak.engines import ENGINES
    from corpora.speak.speakers import assign
    from corpora.speak.spoken import Encoding, write_spoken
    from corpora.speak.written import OWN_SETS, read_sentence_sets

    paths = options.sets or [OWN_SETS / f"{name}.jsonl" for name in OWN_ORDER]
    sentences = read_sentence_sets(paths, options.language, options.split)
    if options.corpora:
        found = {sentence.corpus for sentence in sentences}
        if unknown := [name for name in options.corpora if name not in found]:
            raise UserError(f"--corpora {unknown[0]}: not in the sentence sets, which have {', '.join(sorted(found))}")
        sentences = [sentence for sentence in sentences if sentence.corpus in options.corpora]
    engine = ENGINES[options.engine]()
    readings = assign(sentences, engine, (options.speakers, options.test_speakers), options.seed)
    licence = options.licence or ("sentences of unknown licence" if options.sets else OWN_LICENCE)
    encoding = Encoding(options.audio, options.bit_rate, options.longest)
    folders = write_spoken(
        readings, options.out, options.engine, encoding, licence=licence, processes=options.processes
    )
    for folder in folders:
        show(*describe(folder))
    return 0

"""The commands of `prepare.py`: one for each reader, and those that work on manifests; imports nothing heavy."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from common.errors import UserError
from common.option_types import Count, Range, Seed
from common.options import Command, option, options_of
from common.printing import show
from corpora import readers
from corpora.readers.reader import Reader
from corpora.speak.speak_options import SpeakOptions, speak


@dataclass(frozen=True)
class DemoOptions:
    """Output."""

    out: Path = option(Path("data/demo"), metavar="DIR")
    """Output folder."""
    backbone: Annotated[int, Range(1, 1_000_000)] | None = option(None, metavar="N", shown_default="the demo's corpora")
    """Make, instead, N training utterances of each language, for a backbone."""


def run_demo(options: DemoOptions) -> None:
    """Synthesise the demo's corpora, or a backbone's monolingual training set."""
    from corpora.manifest_counts import describe
    from corpora.speak.demo_corpora import write_backbone, write_demo

    if options.backbone is None:
        write_demo(options.out)
    else:
        write_backbone(options.out, options.backbone)
    show(*describe(options.out))


@dataclass(frozen=True)
class ReaderOptions:
    """The corpus."""

    source: str = option(metavar="PATH")
    """The corpus."""
    out: Path | None = option(None, metavar="DIR")
    """Output folder."""
    train_utterances: Count | None = option(None, metavar="N", shown_default="all")
    """Draw so many training utterances of each pair."""
    seed: Seed = 0
    """Seed of the draw."""
    held_out: list[Path] | None = option(None, metavar="MANIFEST")
    """Test manifests whose sentences training must not contain."""


def reader_command(name: str, reader: type[Reader]) -> Command:
    """The command that prepares a reader's corpus; the reader's fields are its last options."""
    shared = {one.name: one for one in options_of(ReaderOptions)}
    shared["source"] = replace(shared["source"], text=f"{reader.needs}.")
    if reader.hub_id:
        shared["source"] = replace(shared["source"], default=reader.hub_id, metavar="PATH_OR_HUB_ID")
    shared["out"] = replace(shared["out"], shown_default=f"data/{name}")
    if reader.held_out:
        text = f"{shared['held_out'].text.rstrip('.')}, besides data/{reader.held_out}."
        shared["held_out"] = replace(shared["held_out"], text=text)
    own = options_of(reader, "The corpus's layout")
    summary, _, layout = (inspect.getdoc(reader) or "").partition(".\n")
    text = f"{summary}; needs {reader.needs}\n{layout}"
    return Command(name, text, [*shared.values(), *own], partial(run_reader, reader))


def run_reader(reader: type[Reader], options: Mapping[str, Any]) -> None:
    """Prepare one corpus."""
    from corpora.corpus import configured, held_out_manifests, prepare
    from corpora.readers.source import open_source

    chosen = configured(reader, options)
    folder = options["out"] or Path("data") / reader.name
    held_out = held_out_manifests(chosen, folder, options["held_out"])
    source = open_source(options["source"], reader.hub_id, chosen.hub_patterns())
    count, seed = options["train_utterances"], options["seed"]
    prepared = prepare(chosen, source, folder, train_utterances=count, seed=seed, held_out=held_out)
    show(*prepared.lines())


@dataclass(frozen=True)
class KoDeOptions:
    """The test set."""

    source: str | None = option(None, metavar="HIKE", shown_default="the Hub's")
    """HiKE, a snapshot's folder or Hub id; writes the sheet to translate."""
    sheet: Path | None = option(None, metavar="FILE")
    """The filled sheet; reads it and --audio into a test set."""
    audio: Path | None = option(None, metavar="DIR")
    """The folder of the recordings, one <id>.wav or .flac a row."""
    speaker: str | None = option(None, metavar="NAME")
    """Who recorded them, for the manifest."""
    out: Path = option(Path("data/ko_de"), metavar="DIR")
    """Output folder."""


def run_ko_de(options: KoDeOptions) -> None:
    """Write the sheet to translate and record, or read it back with the recordings."""
    from corpora.ko_de import prepare_recorded, write_sheet

    if (options.sheet is None) != (options.audio is None) or (options.sheet and options.source):
        ways = "--source or nothing to write the sheet, --sheet and --audio to read it back"
        raise UserError(f"ko_de_script: give {ways}")
    if options.sheet:
        lines = prepare_recorded(options.sheet, options.audio, options.out, options.speaker).lines()
    else:
        lines = write_sheet(options.source, options.out / "script.csv")
    show(*lines)


@dataclass(frozen=True)
class CheckOptions:
    """What is checked."""

    manifests: list[Path] = option(positional=True, metavar="PATH")
    """Manifests, or folders of them."""
    tokenizer: str | None = option(None, metavar="MODEL")
    """A Whisper (folder or Hub id) to count label tokens with."""


def run_check(options: CheckOptions) -> int:
    """Check manifests; 1 where something in them is wrong."""
    from corpora.check import check

    return check(options.manifests, options.tokenizer)


@dataclass(frozen=True)
class SplicedOptions:
    """What is spliced."""

    manifests: list[Path] = option(positional=True, metavar="MANIFEST")
    """Manifests whose spans have times."""
    out: Path = option(metavar="DIR")
    """Output folder: <out>/<pair>/spliced.jsonl."""
    pairs: list[str] | None = option(None, metavar="PAIR", shown_default="all that the manifests do not hold")
    """Pairs to make."""
    utterances: Annotated[int, Range(1, 100_000)] = 64
    """Utterances of each pair."""
    pattern: str = option("host", metavar="host|parallel|chain")
    """How an utterance is put together, see docs/splicing.md."""
    phrases: str | None = option(None, metavar="FILE")
    """For parallel: sentences in several languages, by phrases."""
    window: Annotated[float, Range(0, above=True)] = option(30.0, metavar="SECONDS")
    """Longest utterance."""
    seed: Seed = 0
    """Seed of the draws."""


def run_splice(options: SplicedOptions) -> None:
    """Write spliced utterances."""
    from corpora.spliced import write_spliced
    from datamodules.splicing.splice_options import Splicing

    splicing = Splicing(share=1.0, pairs=options.pairs, pattern=options.pattern, phrases=options.phrases)
    count = options.utterances
    written = write_spliced(options.manifests, options.out, splicing, count, options.window, options.seed)
    for path in written.values():
        show(f"{path}: {count} utterances")


@dataclass(frozen=True)
class AlignOptions:
    """What is aligned."""

    manifests: list[Path] = option(positional=True, metavar="MANIFEST")
    """Prepared manifests."""
    model: str = option(metavar="MODEL")
    """A Whisper (folder or Hub id) trained on the languages."""
    out: Path = option(metavar="DIR")
    """Output folder: <out>/<manifest's folder>/<manifest>."""
    method: Literal["attention", "ctc"] = "attention"
    """How switches are found; ctc takes a model trained from scratch with CTC, see docs/splicing.md."""
    words: bool = False
    """A span for each word, so that splicing can cut there."""
    least_score: Annotated[float, Range(0, 1)] = option(0.01, metavar="P")
    """Lowest score of a switch."""
    device: str | None = option(None, shown_default="cuda if there is one")
    """Where to compute: cpu or cuda."""
    seed: Seed = 0
    """Seed of what ctc fits."""


def run_align(options: AlignOptions) -> None:
    """Write manifests with span times."""
    from backbone.devices import chosen_device
    from corpora.align import align
    from corpora.aligners import AttentionAligner, CTCAligner

    device = chosen_device(options.device)
    is_ctc = options.method == "ctc"
    chosen = CTCAligner(options.model, device, options.seed) if is_ctc else AttentionAligner(options.model, device)
    made_by = {"model": options.model, "method": options.method, "seed": options.seed}
    report = align(options.manifests, options.out, chosen, options.least_score, options.words, made_by)
    show(*report.lines())


def commands() -> Iterator[Command]:
    """Every command, in the help's order: the demo, one for each reader, and the others."""
    yield Command("demo", "Small corpora spoken by espeak-ng; needs pip install -e '.[demo]'", DemoOptions, run_demo)
    yield Command("speak", "Speak sentence sets with robot or neural voices, as corpora", SpeakOptions, speak)
    for name, reader in readers.discover().items():
        yield reader_command(name, reader)
    yield Command("ko_de_script", "A Korean-German test set of your own, after HiKE", KoDeOptions, run_ko_de)
    yield Command("check", "Open every audio of prepared manifests and list what is wrong", CheckOptions, run_check)
    yield Command("splice", "Utterances of pairs that nobody recorded, cut from manifests", SplicedOptions, run_splice)
    yield Command("align", "The times at which speakers switch, for manifests without them", AlignOptions, run_align)

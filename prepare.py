"""Turns corpora into manifests, and checks them: `python prepare.py <corpus> --source PATH_OR_HUB_ID [--out DIR]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import UserError, run_script
from common.options import Help, finish
from corpora import readers
from corpora.readers.reader import Reader, options


def parser() -> argparse.ArgumentParser:
    """The command line: a command for every reader found in `corpora.readers`, and those that are none."""
    top = argparse.ArgumentParser(
        prog="prepare.py",
        description=__doc__,
        epilog="""examples:
  python prepare.py demo
  python prepare.py cs_fleurs
  python prepare.py folder --help
  python prepare.py check data/*/

docs/corpora.md tells where each corpus is to be had, under which licence, and what comes out.""",
        formatter_class=Help,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="small corpora spoken by espeak-ng (pip install -e '.[demo]')")
    demo.add_argument("--out", type=Path, default=Path("data/demo"), help="output folder (default: %(default)s)")
    demo.set_defaults(run=run_demo)

    for name, reader in readers.discover().items():
        _add_reader(commands.add_parser(name, help=f"{reader.summary}; needs {reader.needs}"), reader)

    script = commands.add_parser(
        "ko_de_script", help="a Korean-German test set of your own: HiKE's sentences to translate, then to record"
    )
    script.add_argument(
        "--source", help="HiKE: a snapshot's folder or hub id (default: the hub's); writes the sheet", metavar="HIKE"
    )
    script.add_argument("--sheet", type=Path, help="the filled sheet; reads it and --audio into a test set")
    script.add_argument("--audio", type=Path, help="the folder of the recordings, one <id>.wav or .flac a row")
    script.add_argument("--speaker", help="who recorded them, for the manifest")
    script.add_argument("--out", type=Path, default=Path("data/ko_de"), help="output folder (default: %(default)s)")
    script.set_defaults(run=run_ko_de_script)

    check = commands.add_parser("check", help="opens every audio of prepared manifests and lists what is wrong")
    check.add_argument("manifests", nargs="+", type=Path, help="manifests, or folders of them", metavar="PATH")
    check.add_argument("--tokenizer", help="a Whisper model (folder or hub id) to count label tokens with")
    check.set_defaults(run=run_check)

    splice = commands.add_parser("splice", help="utterances of pairs nobody recorded, cut from prepared manifests")
    splice.add_argument("manifests", nargs="+", type=Path, help="manifests whose spans have times", metavar="MANIFEST")
    splice.add_argument("--out", type=Path, required=True, help="output folder: <out>/<pair>/spliced.jsonl")
    splice.add_argument("--pairs", nargs="+", help="pairs to make (default: all that the manifests do not hold)")
    splice.add_argument("--utterances", type=int, default=64, help="of each pair (default: %(default)s)", metavar="N")
    splice.add_argument("--pattern", default="host", help="host or chain, see docs/splicing.md")
    splice.add_argument(
        "--window", type=float, default=30.0, help="longest utterance in seconds (default: %(default)s)"
    )
    splice.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    splice.set_defaults(run=run_splice)

    align = commands.add_parser("align", help="the times at which speakers switch, for prepared manifests without them")
    align.add_argument("manifests", nargs="+", type=Path, help="prepared manifests", metavar="MANIFEST")
    align.add_argument("--model", required=True, help="a Whisper (folder or hub id) that hears the languages")
    align.add_argument("--out", type=Path, required=True, help="output folder: <out>/<manifest's folder>/<manifest>")
    align.add_argument("--method", choices=["ctc", "attention"], default="ctc", help="see docs/splicing.md")
    align.add_argument("--words", action="store_true", help="a span for each word, so that splicing can cut there")
    align.add_argument(
        "--least-score", type=float, default=0.01, help="of a switch (default: %(default)s)", metavar="P"
    )
    align.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    align.add_argument("--seed", type=int, default=0, help="of fitting (default: %(default)s)")
    align.set_defaults(run=run_align)
    return finish(top)


def _add_reader(command: argparse.ArgumentParser, reader: type[Reader]) -> None:
    command.description = reader.__doc__
    command.add_argument(
        "--source",
        help=reader.needs,
        required=reader.hub_id is None,
        default=reader.hub_id,
        metavar="PATH_OR_HUB_ID" if reader.hub_id else "PATH",
    )
    command.add_argument("--out", type=Path, help=f"output folder (default: data/{reader.name})")
    command.add_argument("--train-utterances", type=int, metavar="N", help="draw N training utterances a pair")
    command.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    command.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        metavar="MANIFEST",
        help="test manifests whose sentences training must not hold"
        + (f" (besides data/{reader.held_out})" if reader.held_out else ""),
    )
    for flag, arguments in options(reader):
        command.add_argument(flag, **arguments)
    command.set_defaults(run=run_reader, reader=reader)


def run_demo(args: argparse.Namespace) -> int:
    """Synthesises the demo's corpora."""
    from corpora.manifest_counts import describe
    from corpora.speak.demo_corpora import write_demo

    write_demo(args.out, progress=True)
    print("\n".join(describe(args.out)))
    return 0


def run_reader(args: argparse.Namespace) -> int:
    """Prepares one corpus."""
    from corpora.corpus import configured, held_out_manifests, prepare
    from corpora.readers.source import open_source

    if args.train_utterances is not None and args.train_utterances < 1:
        raise UserError(f"--train-utterances is {args.train_utterances}, expected 1 or more")
    reader = configured(args.reader, vars(args))
    folder = args.out or Path("data") / args.reader.name
    held_out = held_out_manifests(reader, folder, args.held_out)
    source = open_source(args.source, reader.hub_id, reader.hub_patterns())
    prepared = prepare(
        reader, source, folder, train_utterances=args.train_utterances, seed=args.seed, held_out=held_out
    )
    print("\n".join(prepared.lines()))
    return 0


def run_ko_de_script(args: argparse.Namespace) -> int:
    """Writes the sheet to translate and record, or reads it back with the recordings."""
    from corpora.ko_de import prepare_recorded, write_sheet

    if (args.sheet is None) != (args.audio is None) or (args.sheet and args.source):
        raise UserError(
            "ko_de_script: give --source or nothing to write the sheet, --sheet and --audio to read it back"
        )
    lines = (
        prepare_recorded(args.sheet, args.audio, args.out, args.speaker).lines()
        if args.sheet
        else write_sheet(args.source, args.out / "script.csv")
    )
    print("\n".join(lines))
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Checks manifests; 1 where something in them is wrong."""
    from corpora.check import check

    return check(args.manifests, args.tokenizer)


def run_splice(args: argparse.Namespace) -> int:
    """Writes spliced utterances."""
    from corpora.spliced import write_spliced
    from datamodules.splicing.splice_options import Splicing

    if args.utterances < 1:
        raise UserError(f"--utterances is {args.utterances}, expected 1 or more")
    options = Splicing(share=1.0, pairs=args.pairs, pattern=args.pattern)
    written = write_spliced(args.manifests, args.out, options, args.utterances, args.window, args.seed)
    for path in written.values():
        print(f"{path}: {args.utterances} utterances")
    return 0


def run_align(args: argparse.Namespace) -> int:
    """Writes manifests with span times."""
    from backbone.devices import default_device
    from corpora.align import align
    from corpora.aligners import aligner

    chosen = aligner(args.method, args.model, args.device or default_device(), args.seed)
    made_by = {"model": args.model, "method": args.method, "seed": args.seed}
    report = align(args.manifests, args.out, chosen, args.least_score, args.words, made_by)
    print("\n".join(report.lines()))
    return 0


def main() -> int:
    """Parses the command line and runs its command."""
    args = parser().parse_args()
    return args.run(args)


if __name__ == "__main__":
    run_script(main)

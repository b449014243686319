"""The command line of `evaluate.py transcribe`; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.options import Help, finish

_EXAMPLES = """examples:
  python evaluate.py transcribe outputs/fishr/model talk.mp3
  python evaluate.py transcribe outputs/fishr/model recordings/ --out transcripts --format txt srt --longest 8
  python evaluate.py transcribe outputs/fishr/model clip.wav --pair ko-en --beside base=openai/whisper-medium
  python evaluate.py transcribe outputs/fishr/model --beside openai/whisper-medium --gradio
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="evaluate.py transcribe",
        description="Transcribes recordings of any length; prints what was heard, or writes it to files.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    top.add_argument("model", metavar="MODEL", help="model folder or Hub id, also as NAME=PATH")
    top.add_argument("paths", nargs="*", metavar="FILE|DIR", help="sound files (wav, flac, mp3, ogg ...), or folders")
    top.add_argument("--beside", action="append", default=[], metavar="MODEL", help="a further model; repeatable")
    speech = top.add_argument_group("what is spoken")
    speech.add_argument("--pair", help="such as ko-en, the matrix language first")
    speech.add_argument(
        "--language", help="auto (default), a code such as ko; with --pair: matrix (default), embedded or two_tag"
    )
    output = top.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="write a file for each recording (default: print)")
    output.add_argument("--format", nargs="+", choices=["txt", "srt", "json"], default=["txt"], help="default: txt")
    output.add_argument(
        "--longest",
        type=float,
        metavar="SECONDS",
        help="of a piece or subtitle (default: what the model's window holds)",
    )
    decoding = top.add_argument_group("decoding")
    decoding.add_argument("--beams", type=int, default=1, metavar="N", help="hypotheses kept; 1 is greedy (default)")
    decoding.add_argument(
        "--compile", action="store_true", help="translate the greedy step by torch.compile, for a GPU"
    )
    decoding.add_argument("--batch-size", type=int, default=16, metavar="N", help="pieces side by side (default: 16)")
    decoding.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    page = top.add_argument_group("a page to speak to (pip install -e '.[gradio]')")
    page.add_argument("--gradio", action="store_true", help="serve a page with a microphone, the models side by side")
    page.add_argument("--port", type=int, default=7860, help="of the page, on this machine alone (default: 7860)")
    return finish(top)


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Raises:
        UserError: for whatever the user can put right.
    """
    given = parser().parse_args(arguments)
    _check(given)
    from backbone.devices import default_device
    from backbone.model_folder.candidates import candidates
    from decoding.recordings import Listening, transcribe

    how = Listening(
        language=given.language or ("matrix" if given.pair else "auto"),
        pair=given.pair,
        longest_s=given.longest,
        beams=given.beams,
        batch_size=given.batch_size,
        device=given.device or default_device(),
        compile=given.compile,
    )
    models = candidates([given.model, *given.beside])
    for model in models:
        model.folder  # noqa: B018  (found, or the mistake is told)
    if given.gradio:
        from decoding.microphone_page import serve

        serve(models, how, given.port)
        return 0
    return transcribe(models, given.paths, how, given.format, given.out)


def _check(given: argparse.Namespace) -> None:
    for name in ("beams", "batch_size"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(given, name)}, expected 1 or more")
    if given.compile and given.beams > 1:
        raise UserError("--compile translates the greedy step; leave it out, or --beams")
    if given.gradio and given.paths:
        raise UserError("--gradio serves a page and takes no files; name further models with --beside")
    if not given.gradio and not given.paths:
        raise UserError("transcribe: name sound files or folders after the model, or --gradio")
    if given.out is None and len(given.format) > 1:
        raise UserError("--format: several formats need --out, a folder to write to")

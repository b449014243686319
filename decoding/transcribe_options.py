"""The command `evaluate.py transcribe`; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from backbone.guards import Guards
from backbone.language_tags import AMONG_PAIR, AUTO, POLICIES
from common.errors import UserError
from common.input_files import read_text
from common.option_types import Beams, Count, NumberFormat, Range
from common.options import Command, option


@dataclass(frozen=True)
class RecordingOptions:
    """Models and recordings."""

    model: str = option(positional=True, metavar="MODEL")
    """Model folder or Hub id, also as NAME=PATH."""
    paths: list[Path] = option([], positional=True, metavar="FILE|DIR")
    """Sound files (wav, flac, mp3, ogg ...), or folders of them."""
    beside: list[str] = option([], metavar="MODEL")
    """Further models."""


@dataclass(frozen=True)
class EngineOptions(Guards):
    """Decoding."""

    beams: Beams = 1
    """Hypotheses kept side by side; 1 is greedy."""
    compile: bool = False
    """Compile the greedy step by torch.compile, for a GPU."""
    precision: NumberFormat = "float32"
    """Number format of weights and arithmetic; float16 on GPUs alone."""
    device: str | None = option(None, shown_default="cuda if there is one")
    """Where to decode: cpu, cuda, cuda:1."""


@dataclass(frozen=True)
class RecordingDecoding(EngineOptions):
    """Decoding."""

    temperatures: list[Annotated[float, Range(0)]] = option([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], metavar="T")
    no_speech: Annotated[float, Range(0, 1)] = option(0.6, metavar="P")
    pair: str | None = None
    """The pair spoken, such as ko-en, the matrix language first."""
    language: str | None = option(None, metavar="TAG", shown_default="auto; with --pair matrix")
    """Auto, a code such as ko, or with --pair: matrix, embedded, two_tag, among-pair, likeliest."""
    languages: list[str] = option([], metavar="CODE")
    """The languages spoken, such as ko ja en: auto chooses among these for each piece."""
    prompt: str = ""
    """What was said before: names, topic, spelling."""
    hotwords: Path | None = option(None, metavar="FILE")
    """Words to expect, one a line."""
    longest: Annotated[float, Range(1)] = option(8.0, metavar="SECONDS")
    """Longest segment or subtitle, within the model's window: a segment has one language tag."""
    rest: Annotated[float, Range(0.1)] = option(0.5, metavar="SECONDS")
    """A rest between words as long as this ends a segment of two seconds and more: there people switch."""
    everything: bool = False
    """Transcribe also where no speech is found, such as songs."""
    batch_size: Count = 16
    """Segments side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.languages and (self.pair or self.language not in (None, AUTO)):
            raise UserError("--languages lets the model choose each piece's language; leave out --pair and --language")
        if self.pair is None and self.language in {*POLICIES} - {AUTO}:
            raise UserError(f"--language {self.language} asks for --pair, such as ko-en, to know the languages")
        if self.compile and self.beams > 1:
            raise UserError("--compile compiles the greedy step; leave it out, or --beams")

    @property
    def context(self) -> str:
        """What the decoder is told was said before.

        Raises:
            UserError: where the file of words cannot be read.
        """
        words = read_text(self.hotwords).split("\n") if self.hotwords else []
        return " ".join(filter(None, [", ".join(filter(None, map(str.strip, words))), self.prompt.strip()]))

    @property
    def tag(self) -> str:
        """The language tag or policy to decode with."""
        if self.languages:
            return AMONG_PAIR
        return self.language or ("matrix" if self.pair else AUTO)


@dataclass(frozen=True)
class OutputOptions:
    """Output."""

    out: Path | None = option(None, metavar="DIR")
    """Write a file for each recording; without it, print."""
    format: list[Literal["txt", "srt", "vtt", "json"]] = option(["txt"])
    """Formats to write."""


@dataclass(frozen=True)
class PageOptions:
    """A page to speak to (needs pip install -e '.[gradio]')."""

    gradio: bool = False
    """Serve a page with a microphone, the models side by side."""
    port: Annotated[int, Range(1, 65_535)] = 7860
    """Port of the page, which this machine alone reaches."""


@dataclass(frozen=True)
class TranscribeOptions(PageOptions, OutputOptions, RecordingDecoding, RecordingOptions):
    """All options of `evaluate.py transcribe`."""


def run(given: TranscribeOptions) -> int:
    """Transcribe, or serve the page.

    Raises:
        UserError: for any mistake that the user can correct.
    """
    if given.gradio and given.paths:
        raise UserError("--gradio serves a page and takes no files; name further models with --beside")
    if not given.gradio and not given.paths:
        raise UserError("transcribe: name sound files or folders after the model, or --gradio")
    if given.out is None and len(given.format) > 1:
        raise UserError("--format: several formats need --out, a folder to write to")
    from backbone.model_folder.candidates import candidates
    from decoding.recordings import transcribe

    models = candidates([given.model, *given.beside])
    for model in models:
        model.folder  # noqa: B018  (looked for now, so that a mistake ends the command before it decodes)
    if given.gradio:
        from decoding.microphone_page import serve

        serve(models, given, given.port)
        return 0
    return transcribe(models, given.paths, given, given.format, given.out)


TRANSCRIBE = Command(
    "transcribe",
    "Transcribe recordings of any length; print the transcripts, or write them to files.",
    TranscribeOptions,
    run,
    examples="""
        python evaluate.py transcribe outputs/fishr/model talk.mp3
        python evaluate.py transcribe outputs/fishr/model recordings/ --out transcripts --format txt srt --longest 5
        python evaluate.py transcribe outputs/fishr/model talk.mp3 --languages ko ja en
        python evaluate.py transcribe outputs/fishr/model clip.wav --pair ko-en --beside base=openai/whisper-medium
        python evaluate.py transcribe outputs/fishr/model --beside openai/whisper-medium --gradio""",
)

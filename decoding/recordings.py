"""Transcribe recordings of any length, in any format that libsndfile reads."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import soundfile
from tqdm import tqdm

from backbone.devices import check_decoding_precision, chosen_device
from backbone.language_tags import POLICIES, context_ids, language_id
from backbone.model_folder.candidates import Candidate
from backbone.model_folder.read import read_model_folder
from common.errors import UserError
from common.files import check_name, write_text
from common.manifest import Utterance
from common.printing import show, visible, warn
from common.sound_files import FOREIGN_SUFFIXES
from decoding.segments import Segment, segments_of
from decoding.torch_whisper import TorchWhisper
from decoding.transcribe_options import RecordingDecoding
from decoding.transcriber import UNDETERMINED, Hypothesis, Transcriber
from decoding.transcript import Transcript

_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".mp3", ".oga", ".opus"}
_SUFFIXES |= FOREIGN_SUFFIXES  # cannot be read, but are listed so that this is reported


class RecordingTranscriber:
    """A loaded model that transcribes recordings.

    Args:
        model: to load.
        how: to transcribe.
        words: whether to find the words' times and languages, too.
    """

    def __init__(self, model: Candidate, how: RecordingDecoding, words: bool = False) -> None:
        self.name, self.how = model.name, how
        device = chosen_device(how.device)
        check_decoding_precision(how.precision, device)
        decoding = {"beams": how.beams, "device": device, "compiled": how.compile, "precision": how.precision}
        engine = TorchWhisper(*read_model_folder(model.opened), **decoding)
        for code in ({how.tag} - set(POLICIES)) | set(how.languages):  # checked before anything is read
            language_id(engine.tokenizer, code)
        self.transcriber = Transcriber(engine, language=how.tag, batch_size=how.batch_size, guards=how, words=words)
        self.expect(how.context)
        self.longest_s = min(how.longest, engine.window.seconds)

    def expect(self, context: str) -> None:
        """Set what the decoder is told was said before, or the words to expect."""
        self.transcriber.context = context_ids(self.transcriber.engine.tokenizer, context)

    def __call__(
        self,
        files: Sequence[Path],
        done: Callable[[float], None] = lambda seconds: None,
        failed: Callable[[Path, UserError], None] | None = None,
    ) -> Iterator[Transcript]:
        """Transcribe recordings, several short ones in one batch.

        Args:
            files: the recordings.
            done: called with the seconds that have just been transcribed.
            failed: called for a recording that cannot be read; without it, the error is raised.

        Raises:
            UserError: where a recording cannot be read, or the tokenizer lacks the language.
        """
        waiting: list[tuple[Path, list[Segment]]] = []
        for file in files:
            try:
                waiting.append((file, segments_of(file, self.longest_s, self.how.rest, self.how.everything)))
            except UserError as error:
                if failed is None:
                    raise
                failed(file, error)
            if sum(len(parts) for _, parts in waiting) >= self.how.batch_size:
                yield from self._transcribe(waiting, done)
                waiting = []
        yield from self._transcribe(waiting, done)

    def _transcribe(
        self, recordings: Sequence[tuple[Path, list[Segment]]], done: Callable[[float], None]
    ) -> Iterator[Transcript]:
        speech = [
            self._utterance(file, segment) for file, parts in recordings for segment in parts if segment.has_speech
        ]
        by_place = iter(self.transcriber.hypotheses(speech, "transcribe", done))
        for file, parts in recordings:
            found = [next(by_place).later(part.start) if part.has_speech else Hypothesis("") for part in parts]
            yield Transcript(file, self.name, parts, found)
            done(sum(segment.end - segment.start for segment in parts if not segment.has_speech))

    def _utterance(self, file: Path, segment: Segment) -> Utterance:
        pair = "-".join(self.how.languages) or self.how.pair or UNDETERMINED
        matrix, length = pair.split("-")[0], segment.end - segment.start
        name = f"{file.name}@{segment.start:g}"  # seeds sampling; without the folder, so that files can be moved
        return Utterance(name, file, length, "", pair, matrix, offset=segment.start)


def recordings(paths: Sequence[Path]) -> list[Path]:
    """List the named files and the sound files in the named folders, in order.

    Raises:
        UserError: where a path does not exist, or a folder holds no sound file.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
            if not inside:
                raise UserError(f"{path}: no sound file in the folder; known are {', '.join(sorted(_SUFFIXES))}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file")
    return found


def transcribe(
    models: Sequence[Candidate], paths: Sequence[Path], how: RecordingDecoding, forms: Sequence[str], out: Path | None
) -> int:
    """Transcribe recordings with each model, and print or write the transcripts.

    Args:
        models: to transcribe with, one after the other.
        paths: recordings, or folders of them.
        how: to transcribe.
        forms: formats to write, of txt, srt, vtt and json.
        out: folder to write to, a subfolder for each of several models; None prints the first form.

    Returns:
        The exit code: 1 where a recording cannot be read.
    """
    files = recordings(paths)
    names = _names(files)
    folders = {m.name: out / check_name(m.name, "a model") if len(models) > 1 else out for m in models} if out else {}
    failures: dict[Path, UserError] = {}
    shape = "{desc} {bar} {remaining}"
    for model in models:
        transcriber = RecordingTranscriber(model, how, words=set(forms) != {"txt"})
        with tqdm(desc=visible(model.name), total=_seconds(files), bar_format=shape, leave=False, disable=None) as bar:
            for transcript in transcriber(files, bar.update, failures.__setitem__):
                for note in transcript.notes():
                    warn(f"note: {transcript.file}: {note}")
                if out is None:
                    _show(transcript, forms[0], many=len(files) > 1 or len(models) > 1)
                for form in forms if out is not None else ():
                    write_text(folders[model.name] / f"{names[transcript.file]}.{form}", transcript.written(form))
    for error in failures.values():
        warn(f"error: {error}")
    told = f"{len(files) - len(failures)} of {len(files)} recordings transcribed"
    if out is not None:
        show(f"{out}: {told}")
    elif failures:
        warn(told)
    return 1 if failures else 0


def _seconds(files: Sequence[Path]) -> float:
    total = 0.0
    for file in files:
        with suppress(soundfile.LibsndfileError, OSError):
            total += soundfile.info(file).duration
    return total


def _names(files: Sequence[Path]) -> Mapping[Path, str]:
    """Name each recording's transcript by the file's stem, or by its path and a number where files share the stem."""
    stems = Counter(file.stem for file in dict.fromkeys(files))
    names: dict[Path, str] = {}
    for file in sorted(dict.fromkeys(files), key=lambda file: stems[file.stem]):  # unique stems keep their names
        name = wanted = file.stem if stems[file.stem] == 1 else "_".join(file.parts).strip("/_")
        for number in itertools.count(2):
            if name not in names.values():
                break
            name = f"{wanted}-{number}"
        names[file] = name
    return names


def _show(transcript: Transcript, form: str, many: bool) -> None:
    head = f"{transcript.file}\t{transcript.model}\t" if many and form == "txt" else ""
    show(*f"{head}{transcript.written(form)}".removesuffix("\n").split("\n"))

"""Hypotheses, stored on disk batch by batch: an interrupted evaluation continues, a finished one is not repeated.

Each process writes a file of its own and a reader reads all files, so that the processes exchange nothing, and one
process can continue what two have started.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from backbone.devices import check_decoding_precision, default_device, on_devices
from backbone.guards import LENGTH, REPETITION, SILENCE
from backbone.language_tags import LIKELIEST
from backbone.model_folder.candidates import Candidate
from backbone.model_folder.read import read_model_folder
from common.errors import UserError, nearest
from common.files import naming_disk
from common.input_files import RECORDS, read_text
from common.json_lines import parse_json
from common.manifest import Utterance
from common.progress_meter import progress
from decoding.decoding_engine import Engine
from decoding.faster_whisper import FasterWhisper, convert
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Hypothesis, Transcriber
from evaluation.evaluation_options import Decoding

TRANSFORMERS, FASTER_WHISPER = BACKENDS = ("transformers", "faster-whisper")
_LONGEST = 40  # characters of a test set's name in a file name; at most four bytes each
_GUARDED = {
    LENGTH: "cut as too long",
    REPETITION: "cut as repetitive",
    SILENCE: "left empty as no speech",
    "sampled": "sampled",
}


@dataclass(frozen=True)
class StoredHypotheses:
    """The hypotheses of one test set by one model and way of decoding, in `<name>-<hash of made_from>.<rank>.jsonl`.

    The first line of a file records what they were made from and with; each other line is an utterance.
    """

    folder: Path
    name: str
    made_from: dict[str, Any]

    @property
    def _stem(self) -> str:
        digest = hashlib.sha256(json.dumps(self.made_from, sort_keys=True).encode()).hexdigest()
        name = re.sub(r"[/\0]", "_", self.name)[:_LONGEST]
        return f"{name}-{digest[:16]}"

    def read(self) -> dict[str, Hypothesis]:
        """Return hypotheses by utterance id, without lines that are damaged or cut short."""
        return {
            row["id"]: Hypothesis(row["hypothesis"], row.get("cut"), row.get("temperature", 0.0))
            for row in self._rows()
            if isinstance(row.get("id"), str)
            and isinstance(row.get("hypothesis"), str)
            and isinstance(row.get("cut"), str | None)
            and isinstance(row.get("temperature", 0.0), int | float)
        }

    def missing(self, utterances: Iterable[Utterance]) -> list[Utterance]:
        """Return the utterances without a hypothesis."""
        known = self.read()
        return [utterance for utterance in utterances if utterance.id not in known]

    def made_with(self) -> dict[str, str]:
        """Return the versions of the programs that transcribed."""
        return next((row["made_with"] for row in self._rows() if isinstance(row.get("made_with"), dict)), {})

    def append(self, rank: int, rows: Iterable[tuple[str, Hypothesis]], made_with: dict[str, str]) -> None:
        """Append to the file of a process.

        Args:
            rank: the process.
            rows: utterance ids with their hypotheses.
            made_with: versions of the programs, for the first line of a new file.
        """
        file = self.folder / f"{self._stem}.{rank}.jsonl"
        with naming_disk(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8", newline="\n") as stream:
                fresh = stream.tell() == 0
                head = [{"made_from": self.made_from, "made_with": made_with}] if fresh else []
                lines = head + [{"id": name, "hypothesis": one.text} | _remarks(one) for name, one in rows]
                text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
                stream.write(text if fresh else "\n" + text)  # so a line that was cut short stays separate

    def _rows(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob(f"{self._stem}.*.jsonl")):
            for line in read_text(file, RECORDS, errors="replace").split("\n"):
                try:
                    row = parse_json(line, str(file))
                except UserError:
                    continue
                if isinstance(row, dict):
                    yield row


def _remarks(one: Hypothesis) -> dict[str, Any]:
    found = {"cut": one.cut, "temperature": one.temperature, "languages": one.languages}
    return {key: value for key, value in found.items() if value}


def count_guarded(written: Mapping[str, Hypothesis]) -> dict[str, int]:
    """Count the hypotheses that each guard cut, and those that were sampled."""
    found = Counter(hypothesis.cut for hypothesis in written.values())
    sampled = sum(hypothesis.temperature > 0 for hypothesis in written.values())
    return {guard: found[guard] for guard in (LENGTH, REPETITION, SILENCE)} | {"sampled": sampled}


def by_guard(cuts: Mapping[tuple[str, str], Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return the number of hypotheses by what the guards did to them, in words, and by model; zeros are left out."""
    found: dict[str, dict[str, int]] = {}
    for guard, words in _GUARDED.items():
        for (model, _), counts in cuts.items():
            if counts[guard]:
                numbers = found.setdefault(words, {})
                numbers[model] = numbers.get(model, 0) + counts[guard]
    return found


@dataclass(frozen=True)
class Task:
    """The utterances of a test set that a model has not transcribed yet."""

    model: Candidate
    utterances: Sequence[Utterance]
    stored: StoredHypotheses


def transcribe_missing(tasks: Sequence[Task], how: Decoding, cache: Path, made_with: dict[str, str]) -> None:
    """Transcribe all tasks, on one device or divided over several.

    Args:
        tasks: what is missing.
        how: the decoding.
        cache: a folder for conversions.
        made_with: versions of the programs, to be stored with the hypotheses.

    Raises:
        UserError: where an audio file or a model cannot be read; everything transcribed until then is stored.
    """
    if how.backend not in BACKENDS:
        raise UserError(
            f"no backend is called {how.backend!r}{nearest(how.backend, BACKENDS)}; there are: {', '.join(BACKENDS)}"
        )
    if how.compile and (how.backend != TRANSFORMERS or how.beams > 1):
        raise UserError("compile is for greedy decoding by the backend transformers; leave out one of them")
    judged = how.judges or LIKELIEST in {task.model.language or how.language for task in tasks}
    if how.backend == FASTER_WHISPER and (judged or any(how.temperatures)):
        raise UserError(
            "--temperatures, --no-speech and --language likeliest are of the backend transformers; leave them out, "
            "or --backend"
        )
    device = how.device or default_device()  # checked where the devices are counted
    check_decoding_precision(how.precision, device)
    conversions: dict[Candidate, Path] = {}
    if how.backend == FASTER_WHISPER:
        for model in dict.fromkeys(task.model for task in tasks):
            conversions[model] = convert(model.folder, model.identity, cache)
    if tasks:
        on_devices(transcribe_share, device, how.devices, tasks, how, conversions, made_with)


def transcribe_share(
    device: str,
    rank: int,
    world: int,
    tasks: Sequence[Task],
    how: Decoding,
    conversions: Mapping[Candidate, Path],
    made_with: dict[str, str],
) -> None:
    """Transcribe one process's share: every `world`-th batch, so that the batches do not depend on `world`.

    The largest come first: a test set's last batch is small, and one process must not get all the small ones.

    Args:
        device: where to decode.
        rank, world: the process, and how many there are.
        tasks: what is missing.
        how: the decoding.
        conversions: the folders of models that another program than PyTorch runs.
        made_with: versions of the programs.
    """
    for model, group in groupby(tasks, key=lambda task: task.model):
        engine, language = _engine(model, how, device, conversions.get(model)), model.language or how.language
        transcriber = Transcriber(engine, language=language, batch_size=how.batch_size, guards=how)
        batches = sorted(_batches(transcriber, list(group)), key=_seconds, reverse=True)[rank::world]
        total = sum(len(utterances) for _, utterances in batches)
        shown = batches if rank else progress(batches, model.name, total, lambda batch: len(batch[1]))
        for task, utterances in shown:
            found = _transcribe(transcriber, model, utterances)
            ids = [utterance.id for utterance in utterances]
            task.stored.append(rank, zip(ids, found, strict=True), made_with)


def _engine(model: Candidate, how: Decoding, device: str, conversion: Path | None) -> Engine:
    options = {"beams": how.beams, "device": device, "window": how.window, "precision": how.precision}
    if conversion:
        return FasterWhisper(conversion, model.folder, **options)
    return TorchWhisper(*read_model_folder(model.opened), compiled=how.compile, **options)


def _batches(transcriber: Transcriber, tasks: Sequence[Task]) -> list[tuple[Task, list[Utterance]]]:
    try:
        return [
            (task, [task.utterances[row] for row in rows])
            for task in tasks
            for rows in transcriber.batches(task.utterances, task.stored.name)
        ]
    except UserError as error:
        raise UserError(f"model {tasks[0].model.name}: {error}") from None


def _seconds(batch: tuple[Task, list[Utterance]]) -> float:
    return sum(utterance.duration for utterance in batch[1])


def _transcribe(transcriber: Transcriber, model: Candidate, utterances: Sequence[Utterance]) -> list[Hypothesis]:
    try:
        return transcriber.transcribe_batch(utterances)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise UserError(
            f"model {model.name}: the device has not enough memory for {len(utterances)} utterances side by side; "
            "run again with a smaller --batch-size; finished batches are stored"
        ) from None

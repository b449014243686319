"""Many models on many test sets: hypotheses kept beside their references, then one table of mixed error rates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common.errors import UserError
from common.files import atomic_file
from datamodules.manifest import Utterance, read_manifest
from lightning_modules.decoding import Transcriber
from lightning_modules.export import read_model_folder
from scoring.metrics import score
from scoring.table import Row, Table, to_terminal, write_table


@dataclass(frozen=True)
class Candidate:
    """A model to be scored: its name and group in the table, and its folder or Hub id."""

    name: str
    path: str
    group: str = "models"


@dataclass(frozen=True)
class Evaluation:
    """What to score and how; `test` maps a pair (or a single language) to its manifest."""

    models: Sequence[Candidate]
    test: dict[str, str]
    out: Path
    seen: Sequence[str] = field(default_factory=list)
    unseen: Sequence[str] = field(default_factory=list)
    profile: str = "cjk"
    language: str = "matrix"
    batch_size: int = 32
    device: str = "cpu"


def evaluate(evaluation: Evaluation) -> Table:
    """Transcribes what has not been transcribed yet, scores everything, prints and writes the table.

    Raises:
        UserError: where a manifest, an audio file or a model cannot be read; everything decoded until then is kept.
    """
    sets = {pair: read_manifest(path) for pair, path in evaluation.test.items()}
    rows = []
    with _progress() as progress:
        for model in evaluation.models:
            hypotheses = _transcribe(evaluation, model, sets, progress)
            scores = {
                pair: score(
                    [u.text for u in utterances], hypotheses[pair], evaluation.profile, names=[u.id for u in utterances]
                )
                for pair, utterances in sets.items()
            }
            rows.append(
                Row(
                    model.name,
                    model.group,
                    {pair: result.micro for pair, result in scores.items()},
                    {pair: result.macro for pair, result in scores.items()},
                )
            )
    table = Table(evaluation.profile, list(evaluation.seen), list(evaluation.unseen), rows)
    write_table(table, evaluation.out)
    Console().print(to_terminal(table))
    return table


def _transcribe(
    evaluation: Evaluation, model: Candidate, sets: dict[str, list[Utterance]], progress: Progress
) -> dict[str, list[str]]:
    """Hypotheses by test set, from the files of an earlier run where model, manifest and policy are the same."""
    identity = _model_identity(model.path)
    task = progress.add_task(model.name, total=sum(map(len, sets.values())))
    transcriber: Transcriber | None = None
    found: dict[str, list[str]] = {}
    for pair, utterances in sets.items():
        file = evaluation.out / "hypotheses" / model.name / f"{pair}.jsonl"
        manifest = hashlib.sha256(Path(evaluation.test[pair]).read_bytes()).hexdigest()
        key = {"model": identity, "manifest": manifest, "language": evaluation.language}
        kept = _read_hypotheses(file, key, utterances)
        if kept is None:
            if transcriber is None:
                transcriber = Transcriber(
                    *read_model_folder(model.path),
                    language=evaluation.language,
                    batch_size=evaluation.batch_size,
                    device=evaluation.device,
                )
            kept = transcriber.transcribe(utterances, lambda count: progress.advance(task, count))
            _write_hypotheses(file, key, utterances, kept)
        else:
            progress.advance(task, len(utterances))
        found[pair] = kept
    return found


def _model_identity(path: str) -> str:
    """A hash of the weights, or the Hub id."""
    weights = sorted(Path(path).glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in weights:
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest() if weights else path


def _write_hypotheses(file: Path, key: dict[str, str], utterances: Sequence[Utterance], texts: Sequence[str]) -> None:
    rows = [
        {"id": utterance.id, "reference": utterance.text, "hypothesis": text}
        for utterance, text in zip(utterances, texts, strict=True)
    ]
    with atomic_file(file) as partial:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in ({"made_from": key}, *rows)]
        partial.write_text("".join(lines), encoding="utf-8")


def _read_hypotheses(file: Path, key: dict[str, str], utterances: Sequence[Utterance]) -> list[str] | None:
    if not file.is_file():
        return None
    head, *rows = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    if head != {"made_from": key} or [row["id"] for row in rows] != [utterance.id for utterance in utterances]:
        return None
    return [row["hypothesis"] for row in rows]


def candidates(rows: Sequence[Any]) -> list[Candidate]:
    """Models from a configuration's list: paths, or mappings with `path` and optionally `name` and `group`.

    Raises:
        UserError: where an entry is neither, or two models share a name.
    """
    models = [_candidate(row) for row in rows]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two models are called {name!r}; write NAME=PATH to name them apart")
    return models


def _candidate(row: Any) -> Candidate:
    if isinstance(row, str):
        name, separator, path = row.partition("=")
        return Candidate(name, path) if separator else Candidate(_name_of(row), row)
    if isinstance(row, dict) and "path" in row and set(row) <= {"name", "path", "group"}:
        return Candidate(row.get("name", _name_of(row["path"])), row["path"], row.get("group", "models"))
    raise UserError(f"a model must be a path, NAME=PATH, or {{name, path, group}}; found {row!r}")


def _name_of(path: str) -> str:
    """`outputs/demo/ko_en/model` is called `ko_en`."""
    parts = [part for part in Path(path).parts if part != "model"]
    return parts[-1] if parts else path


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def default_device() -> str:
    """`cuda` where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"

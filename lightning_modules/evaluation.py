"""Many models on many test sets: transcripts kept for the next time, all figures, one table, one report page."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common.errors import UserError
from common.files import atomic_file, write_text
from datamodules.audio import load_clip
from datamodules.manifest import Utterance, read_manifest
from lightning_modules.decoding import Transcriber
from lightning_modules.export import read_model_folder
from scoring.breakdown import Transcript
from scoring.files import to_row, usable_spans
from scoring.report import write_report
from scoring.results import Results, SetScore, results_table, score_set, to_dict
from scoring.table import Table, to_terminal, write_table

_PACKAGES = ("torch", "transformers", "jiwer")


@dataclass(frozen=True)
class Candidate:
    """A model to be scored: its name and group in the table, and its folder or Hub id."""

    name: str
    path: str
    group: str = "models"

    @cached_property
    def identity(self) -> str:
        """A hash of the weights, or the Hub id."""
        digest = hashlib.sha256()
        weights = sorted(Path(self.path).glob("*.safetensors"))
        for file in weights:
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
        return f"sha256:{digest.hexdigest()}" if weights else self.path


@dataclass(frozen=True)
class Evaluation:
    """What to score and how; `test` maps a pair (or a single language) to its manifest.

    `baseline` names the model that the others' differences are tested against; None tests none.
    """

    models: Sequence[Candidate]
    test: dict[str, str]
    out: Path
    seen: Sequence[str] = field(default_factory=list)
    unseen: Sequence[str] = field(default_factory=list)
    baseline: str | None = None
    profile: str = "cjk"
    language: str = "matrix"
    beams: int = 1
    batch_size: int = 32
    device: str = "cpu"


def evaluate(evaluation: Evaluation) -> Table:
    """Transcribes what has not been transcribed yet, scores everything, prints the table and writes all files.

    Raises:
        UserError: where a manifest, an audio file or a model cannot be read; everything decoded until then is kept.
    """
    _check_baseline(evaluation)
    sets = {pair: read_manifest(path) for pair, path in evaluation.test.items()}
    results: dict[str, dict[str, SetScore]] = {}
    with _progress() as progress:
        for model in evaluation.models:
            task = progress.add_task(model.name, total=sum(map(len, sets.values())))
            hypotheses = _hypotheses(evaluation, model, sets, lambda count, task=task: progress.advance(task, count))
            results[model.name] = {
                pair: score_set(_transcripts(utterances, hypotheses[pair]), evaluation.profile)
                for pair, utterances in sets.items()
            }
            for pair, result in results[model.name].items():
                _write_rows(_file(evaluation, model, pair), result)
    groups = {model.name: model.group for model in evaluation.models}
    table = results_table(results, groups, seen=evaluation.seen, unseen=evaluation.unseen, baseline=evaluation.baseline)
    _write_all(evaluation, sets, results, table)
    Console().print(to_terminal(table))
    return table


def _hypotheses(
    evaluation: Evaluation, model: Candidate, sets: dict[str, list[Utterance]], done: Any
) -> dict[str, list[str]]:
    """Hypotheses by test set, those of an earlier run where model, manifest and decoding are the same."""
    transcriber: Transcriber | None = None
    found: dict[str, list[str]] = {}
    for pair, utterances in sets.items():
        file, key = _file(evaluation, model, pair), _made_from(evaluation, model, pair)
        kept = _read_rows(file, key)
        if kept is None:
            if transcriber is None:
                transcriber = Transcriber(
                    *read_model_folder(model.path),
                    language=evaluation.language,
                    beams=evaluation.beams,
                    batch_size=evaluation.batch_size,
                    device=evaluation.device,
                )
            kept = transcriber.transcribe(utterances, done)
            _write_rows(file, score_set(_transcripts(utterances, kept), evaluation.profile))
            write_text(_key_file(file), json.dumps(key))  # last: rows without their key are decoded again
        else:
            done(len(utterances))
        found[pair] = kept
    return found


def _made_from(evaluation: Evaluation, model: Candidate, pair: str) -> dict[str, Any]:
    manifest = hashlib.sha256(Path(evaluation.test[pair]).read_bytes()).hexdigest()
    return {
        "model": model.identity,
        "manifest": f"sha256:{manifest}",
        "language": evaluation.language,
        "beams": evaluation.beams,
    }


def _file(evaluation: Evaluation, model: Candidate, pair: str) -> Path:
    return evaluation.out / "hypotheses" / model.name.replace("/", "_") / f"{pair}.jsonl"


def _key_file(file: Path) -> Path:
    return file.with_suffix(".made_from.json")


def _read_rows(file: Path, key: dict[str, Any]) -> list[str] | None:
    if not file.is_file() or not _key_file(file).is_file() or json.loads(_key_file(file).read_text()) != key:
        return None
    return [json.loads(line)["hypothesis"] for line in file.open(encoding="utf-8")]


def _write_rows(file: Path, result: SetScore) -> None:
    with atomic_file(file) as partial:
        rows = (json.dumps(to_row(utterance), ensure_ascii=False) for utterance in result.utterances)
        partial.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def _transcripts(utterances: Sequence[Utterance], hypotheses: Sequence[str]) -> list[Transcript]:
    return [
        Transcript(
            utterance.id,
            utterance.text,
            hypothesis,
            utterance.languages,
            utterance.matrix_language,
            usable_spans([(span.language, span.text) for span in utterance.spans or ()]),
            utterance.speaker,
        )
        for utterance, hypothesis in zip(utterances, hypotheses, strict=True)
    ]


def _write_all(evaluation: Evaluation, sets: dict[str, list[Utterance]], results: Results, table: Table) -> None:
    """`scores.json`, `table.*` and `report.html`."""
    made = {
        model.name: {
            "path": model.path,
            "group": model.group,
            "sets": {
                pair: {"made_from": _made_from(evaluation, model, pair)} | to_dict(result)
                for pair, result in results[model.name].items()
            },
        }
        for model in evaluation.models
    }
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    scores = {"profile": evaluation.profile, "versions": versions, "test": evaluation.test, "models": made}
    write_text(evaluation.out / "scores.json", json.dumps(scores, ensure_ascii=False, indent=1) + "\n")
    write_table(table, evaluation.out)
    by_id = {(pair, utterance.id): utterance for pair, utterances in sets.items() for utterance in utterances}
    write_report(
        evaluation.out / "report.html",
        results,
        table,
        audio=lambda pair, name: load_clip(by_id[pair, name]),
        notes={
            "language tag": evaluation.language,
            "decoding": "greedy" if evaluation.beams == 1 else f"{evaluation.beams} beams",
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        },
    )


def _check_baseline(evaluation: Evaluation) -> None:
    names = [model.name for model in evaluation.models]
    if evaluation.baseline is not None and evaluation.baseline not in names:
        raise UserError(f"the baseline {evaluation.baseline!r} is none of the models: {', '.join(names)}")


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

"""The options of `evaluate.py`; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from backbone.model_folder.locate import named_models
from common.errors import UserError
from common.option_types import Count, Range
from common.options import Parsed, option


@dataclass(frozen=True)
class ScoredOptions:
    """What is scored."""

    models: list[str | dict[str, str]] = option([], positional=True, metavar="MODEL")
    """Model folder or Hub id, also as NAME=PATH."""
    test: dict[str, str] | None = None
    """Test manifests by name, {ko-en: data/ko-en/test.jsonl}; a configuration names them."""
    seen: list[str] | None = None
    """Test sets of the pairs that were trained on."""
    unseen: list[str] | None = None
    """Test sets of other pairs."""
    profile: str | None = option(None, shown_default="cjk")
    """How transcripts are cut into tokens: cjk, hike, wer, cer."""
    baseline: str | None = option(None, metavar="NAME")
    """Model whose differences from the others are tested."""
    out: str = option("outputs/evaluation", metavar="DIR")
    """Folder for scores and report."""


@dataclass(frozen=True)
class DecodingOptions:
    """Decoding."""

    language: str | None = option(None, metavar="TAG", shown_default="matrix")
    """Language tag: matrix, embedded, auto, two_tag, or a code."""
    beams: Count | None = option(None, shown_default="1")
    """Hypotheses kept side by side; 1 is greedy."""
    backend: str | None = option(None, shown_default="transformers")
    """What decodes: transformers, or faster-whisper on a conversion of the model."""
    window: str | Annotated[float, Range(0, above=True)] | None = option(
        None, metavar="SECONDS", shown_default="as trained"
    )
    """Audio that the encoder is given: 30s, longest, or seconds."""
    compile: bool = False
    """Compile the greedy step by torch.compile, for a GPU."""
    batch_size: Count | None = option(None, shown_default="32")
    """Utterances side by side."""
    device: str | None = option(None, shown_default="cuda if there is one")
    """Where to decode: cpu, cuda, cuda:1."""
    devices: Count | None = option(None, shown_default="1")
    """GPUs over which the utterances are divided."""


@dataclass(frozen=True)
class ComparedOptions:
    """Evaluations that are done."""

    compare: tuple[str, str] | None = option(None, metavar="RUN", in_config=False)
    """Two evaluations' folders, or a model of one as FOLDER/NAME: paired differences, and what changed most."""


@dataclass(frozen=True)
class EvaluationOptions(ComparedOptions, DecodingOptions, ScoredOptions):
    """All options of an evaluation."""


def evaluation_settings(parsed: Parsed) -> dict[str, Any]:
    """Return what was chosen, by name, once it describes an evaluation.

    Raises:
        UserError: where there is no model or no test set, or a test manifest is missing.
    """
    settings = {name: value for name, value in vars(parsed.options).items() if value not in (None, [], False)}
    given = parsed.given
    if "models" in given and "baseline" not in given and settings.get("baseline") not in _names(given["models"]):
        settings.pop("baseline", None)  # it names one of the configuration's models, and others were given
    if "models" not in settings:
        raise UserError("no model named: give model folders, or a --config that lists models")
    if not settings.get("test"):
        raise UserError("no test set named: give a --config with test manifests, e.g. --config demo.yaml")
    missing = [path for path in settings["test"].values() if not Path(path).is_file()]
    if missing:
        raise UserError(f"these test manifests are missing: {', '.join(missing)}; see python prepare.py --help")
    return settings


def _names(models: list[Any]) -> set[str]:
    return {one["name"] for one in named_models(models)}


def check_compare(given: Mapping[str, Any]) -> None:
    """Raise a `UserError` where `--compare` stands beside options that it does not take."""
    if others := given.keys() - {"compare", "profile"}:
        raise UserError(f"--compare transcribes nothing and takes --profile alone, not {', '.join(sorted(others))}")

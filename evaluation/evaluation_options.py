"""The options of `evaluate.py`; imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from backbone.model_folder.locate import named_models
from common.errors import UserError
from common.option_types import Count, Range
from common.options import Parsed, option
from decoding.transcribe_options import EngineOptions


@dataclass(frozen=True)
class ScoredOptions:
    """What is scored."""

    models: list[str | dict[str, str]] = option([], positional=True, metavar="MODEL")
    """Model folder or Hub id, also as NAME=PATH."""
    test: dict[str, str] = option({})
    """Test manifests by name, {ko-en: data/ko-en/test.jsonl}; a configuration names them."""
    seen: list[str] = option([])
    """Test sets of the pairs that were trained on."""
    unseen: list[str] = option([])
    """Test sets of other pairs."""
    profile: str | None = option(None, shown_default="cjk")
    """How transcripts are cut into tokens: cjk, hike, wer, cer."""
    baseline: str | None = option(None, metavar="NAME")
    """Model whose differences from the others are tested."""
    out: str = option("outputs/evaluation", metavar="DIR")
    """Folder for scores and report."""
    decoded: str | None = option(None, metavar="DIR", shown_default="decoded in --out")
    """Folder for the transcripts; evaluations that share it transcribe nothing twice."""


@dataclass(frozen=True)
class Decoding(EngineOptions):
    """Decoding."""

    language: str = option("matrix", metavar="TAG")
    """Language tag: matrix, embedded, two_tag, auto, among-pair, likeliest, or a code."""
    backend: str = "transformers"
    """What decodes: transformers, or faster-whisper on a conversion of the model."""
    window: str | Annotated[float, Range(0, above=True)] | None = option(
        None, metavar="SECONDS", shown_default="as trained"
    )
    """Audio that the encoder is given: 30s, longest, or seconds."""
    batch_size: Count = 32
    """Utterances side by side."""
    devices: Count = 1
    """GPUs over which the utterances are divided."""


@dataclass(frozen=True)
class ComparedOptions:
    """Evaluations that are done."""

    compare: tuple[str, str] | None = option(None, metavar="RUN", in_config=False)
    """Two evaluations' folders, or a model of one as FOLDER/NAME: paired differences, and what changed most."""


@dataclass(frozen=True)
class EvaluationOptions(ComparedOptions, Decoding, ScoredOptions):
    """All options of an evaluation."""


def evaluation_settings(parsed: Parsed) -> EvaluationOptions:
    """Return the options, once they describe an evaluation.

    Raises:
        UserError: where there is no model or no test set, or a test manifest is missing.
    """
    options, given = parsed.options, parsed.given
    if not options.models:
        raise UserError("no model named: give model folders, or a --config that lists models")
    if not options.test:
        raise UserError("no test set named: give a --config with test manifests, e.g. --config demo.yaml")
    missing = [path for path in options.test.values() if not Path(path).is_file()]
    if missing:
        raise UserError(f"these test manifests are missing: {', '.join(missing)}; see python prepare.py --help")
    names = [model["name"] for model in named_models(given.get("models", []))]
    if "models" in given and "baseline" not in given and options.baseline not in names:
        return replace(options, baseline=None)  # it names a model of the configuration, but other models were given
    return options


def check_compare(given: Mapping[str, Any]) -> None:
    """Raise a `UserError` where `--compare` stands beside options that it does not take."""
    if others := given.keys() - {"compare", "profile"}:
        raise UserError(f"--compare transcribes nothing and takes --profile alone, not {', '.join(sorted(others))}")

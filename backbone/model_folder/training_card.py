"""The model card of a fine-tune, in the Hub's format: its training speech, its recipe and its scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.markdown import licence_of, render, split
from common.printing import visible

_BEGIN, _END = "<!-- scores -->", "<!-- end of scores -->"
_NON_COMMERCIAL = re.compile(r"\bnc\b|non[- ]?commercial", re.IGNORECASE)


@dataclass(frozen=True)
class Recipe:
    """How a fine-tune was trained.

    Attributes:
        name: of the run.
        base: the model that was fine-tuned.
        method: the algorithm, in words.
        corpora: by pair, the utterances, sources and licences of what it was trained on.
        settings: options by name.
        notes: sentences that a reader must know, such as how the weights were chosen.
    """

    name: str
    base: str
    method: str
    corpora: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()


def training_card(recipe: Recipe) -> str:
    """Return a fine-tune's card, without scores."""
    licences = sorted({licence for corpus in recipe.corpora.values() for licence in corpus["licences"]})
    bound = [licence for licence in licences if _NON_COMMERCIAL.search(licence)]
    return render(
        Path(__file__).with_name("training_card.md.jinja"),
        recipe=recipe,
        settings="\n".join(f"{name}: {visible(value)}" for name, value in recipe.settings.items()),
        bound=bound,
        languages=list(dict.fromkeys(code for pair in recipe.corpora for code in pair.split("-"))),
        base_licence=licence_of(Path(recipe.base)),
    )


def with_scores(card: str, name: str, scores: Mapping[str, Any], model: str) -> str:
    """Return a card with an evaluation's scores in place of older ones: in its head for the Hub, and as a table.

    Args:
        card: the card so far.
        name: the model's name where the card has none.
        scores: the content of an evaluation's `scores.json`.
        model: its name in that.
    """
    head, body = split(card)
    title = re.search(r"^# (.*)", body, re.MULTILINE)
    name = head.get("model_name") or (re.sub(r"\\(\W|_)", r"\1", title[1]) if title else name)
    sets = scores["models"][model]["sets"]
    metric = {"type": "mer", "name": f"Mixed error rate, micro, profile {scores['profile']}"}
    results = [
        {
            "task": {"type": "automatic-speech-recognition"},
            "dataset": {"type": Path(scores["test"][pair]["manifest"]).parent.as_posix(), "name": pair},
            "metrics": [metric | {"value": round(100 * found["figures"]["mer"]["value"], 2)}],
        }
        for pair, found in sets.items()
    ]
    head["model-index"] = [{"name": name, "results": results}]
    text = render(Path(__file__).with_name("scores.md.jinja"), begin=_BEGIN, end=_END, sets=sets, scores=scores)
    others = re.sub(rf"{_BEGIN}.*?{_END}\n?", "", body, flags=re.DOTALL).rstrip("\n")
    front = yaml.safe_dump(head, sort_keys=False)
    return f"---\n{front}---\n{others}\n\n{text}"

"""The model card: what was merged from what, how, and what the merge did to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from common.markdown import licence_of, table
from merging.inputs import Inputs
from merging.recipe import Recipe
from merging.statistics import Moments, Statistics


def write_card(
    folder: Path, title: str, recipe: Recipe, inputs: Inputs, statistics: Statistics, notes: Sequence[str] = ()
) -> None:
    """Writes `README.md`: front matter for the Hub, the recipe, the lineage, and the geometry of the merge."""
    sources = [inputs.base, *(model for model in inputs.models if model is not inputs.base)]
    licences = {source.name: licence_of(source.path) for source in sources}
    front = {
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["whisper", "merge", "code-switching"],
        "base_model": [source.name for source in sources],
        "base_model_relation": "merge",
    }
    if len(known := set(licences.values())) == 1 and None not in known:
        front["license"] = known.pop()
    fingerprints = statistics.fingerprints(inputs)
    lineage = [
        (
            "base" if source is inputs.base else "fine-tune",
            f"`{source.name}`",
            licences[source.name] or "not stated",
            f"`{fingerprints[source.name]}`",
        )
        for source in sources
    ]
    text = f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {title}

Merged with CrossPair from fine-tunes of one Whisper, without training. {inputs.method.summary}

    {inputs.method.formula}

Source: {inputs.method.source}.
{"".join(f"{chr(10)}**{note}**{chr(10)}" for note in notes)}
## Recipe

```yaml
{recipe.as_yaml()}```

## Lineage

{table(("part", "model", "licence", "fingerprint of the weights"), lineage)}

## What the merge did

{table(("vector", "L2 norm", "share of the base's norm", "mean cosine with the task vectors"), _lengths(inputs, statistics.total))}

Conflicts are entries in which two task vectors point in opposite directions; angles, conflicts and shares are measured
on every fourth block of rows.

{table(("module", "entries in conflict", "mean cosine of the task vectors", "step / mean task vector"), _modules(statistics))}
"""  # noqa: E501
    (folder / "README.md").write_text(text, encoding="utf-8")


def _lengths(inputs: Inputs, total: Moments) -> list[tuple[str, ...]]:
    names = [*(model.label for model in inputs.models), "merged step"]
    count = len(inputs.models)
    rows = []
    for place, (name, norm, share) in enumerate(zip(names, total.norms, total.shares, strict=True)):
        others = [total.cosine(place, other) for other in range(count) if other != place]
        cosine = f"{sum(others) / len(others):.3f}" if others else "-"
        rows.append((name, f"{norm:.4g}", f"{share:.2%}", cosine))
    return rows


def _modules(statistics: Statistics) -> list[tuple[str, ...]]:
    rows = []
    for name, part in sorted(statistics.modules.items()):
        *taus, step = part.norms
        mean = sum(taus) / len(taus)
        ratio = f"{step / mean:.2f}" if mean > 0 else "-"
        rows.append((name, f"{part.conflict_share:.1%}", f"{part.mean_cosine:.3f}", ratio))
    return rows

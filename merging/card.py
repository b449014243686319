"""The model card: what was merged from what, how, and what the merge did."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from merging.folders import ModelFolder
from merging.inputs import Inputs
from merging.recipe import Recipe
from merging.statistics import Statistics


def write_card(folder: Path, title: str, recipe: Recipe, inputs: Inputs, statistics: Statistics) -> None:
    """Writes `README.md`: front matter for the Hub, the recipe, and the lineage with licences."""
    sources = [inputs.base, *(model for model in inputs.models if model is not inputs.base)]
    licences = {source.name: licence(source) for source in sources}
    front = {
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["whisper", "merge", "code-switching"],
        "base_model": [source.name for source in sources],
        "base_model_relation": "merge",
    }
    if len(known := set(filter(None, licences.values()))) == 1:
        front["license"] = known.pop()
    rows = [
        f"| {'base' if place == 0 else 'fine-tune'} | `{source.name}` | {licences[source.name] or 'not stated'} |"
        for place, source in enumerate(sources)
    ]
    text = f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {title}

Made with CrossPair by merging fine-tunes of one Whisper, without training: {inputs.method.summary}

    {inputs.method.formula}

Source: {inputs.method.source}.

## Recipe

```yaml
{recipe.as_yaml()}```

## Lineage

| part | model | licence |
|---|---|---|
{chr(10).join(rows)}
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def licence(model: ModelFolder) -> str | None:
    """The licence that a model's own card states, or None."""
    card = model.path / "README.md"
    if not card.is_file():
        return None
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        front = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return None
    return str(front["license"]) if isinstance(front, dict) and front.get("license") else None

"""How far words begin from where the voices say, at switches of known times, and whether their languages are right.

`python benchmarks/word_times.py speech/*/test.jsonl` aligns the manifests' own transcripts, as transcribing aligns its
own. The aligner was chosen on the first 20 utterances of each manifest, so these are reported by themselves, with the
offsets that were tried; `--most 60` takes so many of the others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from backbone.language_tags import prompt_ids
from backbone.model_folder.read import read_model_folder
from common.audio import load_waveform, speech_edges
from common.languages import script
from common.manifest import Utterance, read_manifest
from corpora.align import places
from decoding.torch_whisper import TorchWhisper
from decoding.words import timed_words, word_places

CHOSEN_ON = 20
LEAD_MS, LEADS_MS = 20, (0, 20, 40, 60)


def measured(engine: TorchWhisper, utterance: Utterance) -> tuple[list[float], list[bool]]:
    """Return the errors at switches in ms, and whether each word with letters has the language of its span."""
    prompt = prompt_ids(engine.tokenizer, (utterance.matrix_language,))
    tokens = engine.tokenizer.encode(utterance.text, add_special_tokens=False)
    waveform_S = load_waveform(utterance.audio, utterance.offset, utterance.duration)
    encoded_BTD = engine.encode(waveform_S[None])
    (times,) = engine.token_times(encoded_BTD, [prompt], [tokens], [utterance.duration])
    spans, where = utterance.spans, list(places(utterance.spans, utterance.text))
    errors_ms = [1000 * (times.at(end) - after.start) for (_, end), after in zip(where[:-1], spans[1:], strict=True)]
    spoken = tuple(dict.fromkeys((utterance.matrix_language, *utterance.languages)))
    found = timed_words(utterance.text, times, speech_edges(waveform_S), spoken)
    right = [
        word.language == next(span.language for span, (_, end) in zip(spans, where, strict=True) if middle < end)
        for word, middle in zip(found, ((a + b) / 2 for a, b in word_places(utterance.text)), strict=True)
        if script(word.text)
    ]
    return errors_ms, right


def described(errors_ms: Sequence[float]) -> str:
    """The median and 90th percentile of the sizes, and the median error with its sign."""
    sizes = list(map(abs, errors_ms))
    ninth = statistics.quantiles(sizes, n=10, method="inclusive")[-1]
    bias = statistics.median(errors_ms)
    return f"median {statistics.median(sizes):.0f} ms, 90th percentile {ninth:.0f}, bias {bias:+.0f}"


def main() -> None:
    """Measure each manifest, then what each offset would give."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--model", default="openai/whisper-base")
    parser.add_argument("--most", type=int, default=60)
    given = parser.parse_args()
    engine = TorchWhisper(*read_model_folder(given.model))
    every: dict[str, list[float]] = {"chosen on": [], "others": []}
    for manifest in given.manifests:
        rows = [row for row in read_manifest(manifest) if row.spans and len(row.spans) > 1]
        parts = {"chosen on": rows[:CHOSEN_ON], "others": rows[CHOSEN_ON : CHOSEN_ON + given.most]}
        for name, part in parts.items():
            found = [measured(engine, row) for row in part]
            errors_ms = [error for errors, _ in found for error in errors]
            right = [one for _, words in found for one in words]
            every[name] += errors_ms
            told = f"{len(part)} utterances, {len(errors_ms)} switches: {described(errors_ms)}"
            print(
                f"{manifest.parent.name} ({name}): {told}; {sum(right) / len(right):.1%} of {len(right)} words right",
                flush=True,
            )
    for lead_ms in LEADS_MS:
        for name, errors_ms in every.items():
            print(f"{lead_ms:+} ms ({name}): {described([error - LEAD_MS + lead_ms for error in errors_ms])}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

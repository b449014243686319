"""What `--hotwords` and `--prompt` do to spoken test sentences: `python benchmarks/hotwords.py`.

Ten utterances at a time are decoded with a list of words to expect: those of their embedded language, and as many of
other utterances of the manifest; with the others alone, which are never said; and with another utterance's transcript
as what was said before. Told are the mixed error rate, and the share of the embedded language's words that are written
as in the reference. `speech/ja-en/test.jsonl --model outputs/erm/model` takes others.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import ROOT, write

from backbone.language_tags import context_ids
from backbone.model_folder.read import read_model_folder
from common.manifest import Utterance, read_manifest
from decoding.torch_whisper import TorchWhisper
from decoding.transcribe_options import RecordingDecoding
from decoding.transcriber import Transcriber
from scoring.edit_alignment import HIT, Counts, align
from scoring.tokens import get_profile

TOKENS = get_profile("cjk")
GROUP = 10


def embedded_words(utterance: Utterance) -> list[str]:
    """The words of the spans that are not in the matrix language, as they are written."""
    spans = [span for span in utterance.spans or () if span.language != utterance.matrix_language]
    return [word.strip(".,?!") for span in spans for word in (span.text or "").split()]


def contexts(group: Sequence[Utterance], others: Sequence[Utterance], rng: random.Random) -> dict[str, str]:
    """What the decoder is told before a group of utterances, by way.

    Args:
        group: the utterances.
        others: of the same manifest.
        rng: draws the words that are not said, and the order.
    """
    said = list(dict.fromkeys(word for utterance in group for word in embedded_words(utterance)))
    pool = sorted({word for utterance in others for word in embedded_words(utterance)} - set(said))
    wrong = rng.sample(pool, min(len(said), len(pool)))
    mixed = rng.sample(said + wrong, len(said) + len(wrong))
    return {
        "nothing": "",
        "hotwords, as many others": ", ".join(mixed),
        "others alone": ", ".join(wrong),
        "prompt: another transcript": rng.choice(others).text,
    }


def counted(utterance: Utterance, text: str) -> tuple[Counts, list[bool]]:
    """The counts of an utterance, and whether each token of its embedded words was written."""
    alignment = align(TOKENS.reference(utterance.text), TOKENS.hypothesis(text))
    embedded = {token for word in embedded_words(utterance) for token in TOKENS.reference(word)}
    steps = [(operation, place) for operation, place, _ in alignment.steps() if place is not None]
    return alignment.counts, [op == HIT for op, place in steps if alignment.reference[place] in embedded]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", default=ROOT / "speech/ko-en/test.jsonl")
    parser.add_argument("--model", default="openai/whisper-base")
    parser.add_argument("--most", type=int, default=60, help="utterances")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    engine = TorchWhisper(*read_model_folder(given.model), device=device)
    transcriber = Transcriber(engine, batch_size=GROUP, guards=RecordingDecoding())
    every = read_manifest(given.manifest)
    rng, chosen = random.Random(given.seed), every[: given.most]
    found: dict[str, list[tuple[Counts, list[bool]]]] = {}
    for begin in range(0, len(chosen), GROUP):
        group = chosen[begin : begin + GROUP]
        others = every[:begin] + every[begin + GROUP :]
        for way, context in contexts(group, others, rng).items():
            transcriber.context = context_ids(engine.tokenizer, context)
            texts = transcriber.transcribe(group)
            found.setdefault(way, []).extend(map(counted, group, texts))
    results = {}
    for way, rows in found.items():
        right = [one for _, written in rows for one in written]
        rate = sum(counts.errors for counts, _ in rows) / sum(counts.reference_tokens for counts, _ in rows)
        results[way] = {"rate": rate, "embedded_right": sum(right) / len(right), "embedded": len(right)}
        print(f"{way}: MER {rate:.1%}, {sum(right) / len(right):.1%} of {len(right)} embedded words right", flush=True)
    write({"manifest": str(given.manifest), "model": given.model, "utterances": len(chosen), "ways": results})


if __name__ == "__main__":
    main()

"""Small mixed corpora with span times for the tests of splicing and alignment: noise, told apart sample by sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from common.manifest import Span, Utterance, read_manifest, write_manifest

# Transcripts as spans of (language, text, seconds); 0.1 s of silence stands before and after.
SENTENCES = {
    "ko-en": [
        [("ko", "새", 0.2), ("en", "report", 0.35), ("ko", "를 봤어요.", 0.45)],
        [("en", "No problem.", 0.4), ("ko", "내일 만나요.", 0.5)],
    ],
    "ja-en": [
        [("ja", "私は", 0.3), ("en", "meeting", 0.4), ("ja", "に行く。", 0.5)],
        [("ja", "新しい", 0.35), ("en", "project", 0.3)],
    ],
    "de-en": [
        [("de", "Ich habe das", 0.3), ("en", "meeting", 0.4), ("de", "verpasst.", 0.3)],
        [("en", "On Friday", 0.3), ("de", "bin ich da.", 0.45)],
    ],
}
TEXTS = {
    "ko-en": ["새 report를 봤어요.", "No problem. 내일 만나요."],
    "ja-en": ["私はmeetingに行く。", "新しいproject"],
    "de-en": ["Ich habe das meeting verpasst.", "On Friday bin ich da."],
}
EDGE_S = 0.1


def write_pair(folder: Path, pair: str, rate_hz: int = 16_000, copies: int = 1) -> str:
    """Writes a pair's sentences, `copies` times over with other noise, at a level of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sorted(SENTENCES).index(pair))
    level = {"ko-en": 0.1, "ja-en": 0.05, "de-en": 0.2}[pair]
    utterances = []
    for copy in range(copies):
        for index, (spans, text) in enumerate(zip(SENTENCES[pair], TEXTS[pair], strict=True)):
            name = f"{pair}-{copy * len(SENTENCES[pair]) + index}"
            duration = sum(seconds for *_, seconds in spans) + 2 * EDGE_S
            samples = level * noise.standard_normal(round(duration * rate_hz))
            soundfile.write(folder / f"{name}.wav", samples, rate_hz, subtype="FLOAT")
            timed, start = [], EDGE_S
            for language, said, seconds in spans:
                timed.append(Span(language, round(start, 4), round(start + seconds, 4), said))
                start += seconds
            utterances.append(
                Utterance(
                    name,
                    folder / f"{name}.wav",
                    round(duration, 4),
                    text,
                    pair,
                    pair.split("-")[0],
                    spans=tuple(timed),
                    speaker=f"{pair} speaker {index}",
                    source=pair,
                    licence="CC0-1.0" if pair == "ko-en" else "CC-BY-4.0",
                )
            )
    write_manifest(folder / "train.jsonl", utterances)
    return str(folder / "train.jsonl")


def write_pairs(root: Path, **options: int) -> dict[str, str]:
    """The manifests of all three pairs."""
    return {pair: write_pair(root / pair, pair, **options) for pair in SENTENCES}


def rewrite(manifest: str, name: str, **changes: object) -> None:
    """Changes an utterance of a manifest; a `spans` given as a function is applied to its spans."""
    utterances = read_manifest(manifest)
    for index, utterance in enumerate(utterances):
        if utterance.id == name:
            new = {k: v(utterance.spans) if callable(v) else v for k, v in changes.items()}
            utterances[index] = replace(utterance, **new)
    write_manifest(manifest, utterances)

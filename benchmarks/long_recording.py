"""Long recordings in which people switch, beside faster-whisper: `python benchmarks/long_recording.py`.

Spoken test sentences of all pairs are joined, in a seeded order, into recordings of ten minutes; rests of up to two
seconds are between them, and after every eighth ten seconds of silence, noise or hum, in which nobody speaks. Words
(characters of Hangul, kana and kanji) and their times are known. Three figures for each model and way, over all
recordings:

- the mixed error rate;
- seconds dropped: of reference words without a counterpart in the alignment of least edits, by the words' times; and
  the longest such stretch;
- words invented in a minute of those ten seconds without speech: insertions between the words around them.

They need no times from the programs. `--models base=openai/whisper-base mine=outputs/erm/model --recordings 10`
compares fine-tunes, `--seconds 40 --only "beam 1"` is a quick look.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import soundfile
import torch
from measuring import RESULTS, ROOT, write
from torch import Tensor

from backbone.model_folder.candidates import Candidate, candidates
from common.audio import SAMPLE_RATE_HZ, load_waveform
from common.manifest import Utterance, read_manifest
from decoding.faster_whisper import convert
from decoding.recordings import RecordingTranscriber
from decoding.transcribe_options import RecordingDecoding
from scoring.edit_alignment import DELETION, INSERTION, align
from scoring.tokens import get_profile

TOKENS = get_profile("cjk")
REST_S, LONG_S, LONG_EVERY, LONG_FIRST = (0.4, 2.0), 10.0, 8, 3
SOUNDS = ("silence", "noise", "hum")
LANGUAGES = ["ko", "ja", "de", "en"]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, beam 1 (its defaults)": ("ours", {}),
    "ours, beam 1, four languages": ("ours", {"languages": LANGUAGES}),
    "ours, beam 1, pieces of 30 s": ("ours", {"longest": 30.0, "rest": 2.0}),
    "faster-whisper, beam 1": ("faster-whisper", {"beam_size": 1}),
    "faster-whisper, beam 1, multilingual, voice activity": (
        "faster-whisper",
        {"beam_size": 1, "multilingual": True, "vad_filter": True},
    ),
    "faster-whisper, its defaults (beam 5)": ("faster-whisper", {}),
}


@dataclass(frozen=True)
class SpokenToken:
    """A token of the reference, and when it is spoken in the recording."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Joined:
    """A recording: the waveform (S,), its reference, and its stretches without speech."""

    waveform_S: Tensor
    tokens: list[SpokenToken]
    speechless_s: float


@dataclass
class TranscriptFigures:
    """What came of some recordings."""

    errors: int = 0
    tokens: int = 0
    dropped_s: float = 0.0
    longest_dropped_s: float = 0.0
    invented: int = 0
    speechless_s: float = 0.0
    seconds: float = 0.0

    def add(self, text: str, joined: Joined, seconds: float) -> None:
        """Score one transcript.

        Args:
            text: the transcript.
            joined: the recording.
            seconds: that transcribing took.
        """
        said = joined.tokens
        alignment = align([token.text for token in said], TOKENS.hypothesis(text))
        ends_s = [0.0, *(token.end_s for token in said)]
        starts_s = [*(token.start_s for token in said), len(joined.waveform_S) / SAMPLE_RATE_HZ]
        passed, run_s = 0, 0.0
        for operation, place, _ in alignment.steps():
            if operation == INSERTION:
                self.invented += starts_s[passed] - ends_s[passed] >= LONG_S
                continue
            passed += 1
            run_s = run_s + said[place].end_s - said[place].start_s if operation == DELETION else 0.0
            self.dropped_s += (said[place].end_s - said[place].start_s) * (operation == DELETION)
            self.longest_dropped_s = max(self.longest_dropped_s, run_s)
        self.errors += alignment.counts.errors
        self.tokens += len(said)
        self.speechless_s += joined.speechless_s
        self.seconds += seconds

    def __str__(self) -> str:
        invented = (
            f"{60 * self.invented / self.speechless_s:.1f} invented a minute" if self.speechless_s else "no pause"
        )
        dropped = f"{self.dropped_s:.1f} s dropped (at once {self.longest_dropped_s:.1f})"
        return f"MER {self.errors / self.tokens:.1%}, {dropped}, {invented}, took {self.seconds:.0f} s"


def spoken_tokens(utterance: Utterance, begin_s: float) -> Iterator[SpokenToken]:
    """Yield the tokens; each span's time is spread evenly over the letters of its tokens.

    Args:
        utterance: its text, and spans with times if there are any that make up the text.
        begin_s: when it begins in the recording.
    """
    parts = [(TOKENS.reference(span.text or ""), span.start, span.end) for span in utterance.spans or ()]
    whole = TOKENS.reference(utterance.text)
    if [token for tokens, *_ in parts for token in tokens] != whole or any(None in part for part in parts):
        parts = [(whole, 0.0, utterance.duration)]
    for tokens, start_s, end_s in parts:
        position_s, letters = begin_s + start_s, sum(map(len, tokens))
        for token in tokens:
            until_s = position_s + (end_s - start_s) * len(token) / letters
            yield SpokenToken(token, position_s, until_s)
            position_s = until_s


def speechless(kind: str, seconds: float, generator: torch.Generator) -> Tensor:
    """A waveform (S,) in which nobody speaks.

    Args:
        kind: silence, noise or hum.
        seconds: how long.
        generator: of the noise.
    """
    samples = round(seconds * SAMPLE_RATE_HZ)
    if kind == "noise":
        return 0.01 * torch.randn(samples, generator=generator)
    if kind == "hum":
        angle_S = 2 * math.pi * 50 * torch.arange(samples) / SAMPLE_RATE_HZ
        return sum(0.02 / number * (number * angle_S).sin() for number in (1, 2, 3))
    return torch.zeros(samples)


def joined(manifests: Sequence[Sequence[Utterance]], seconds: float, seed: int) -> Joined:
    """Join utterances, the manifests in turn, until the recording is long enough.

    Args:
        manifests: their utterances.
        seconds: least length of the recording.
        seed: of the order and the pauses.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    orders = [rng.sample(list(utterances), len(utterances)) for utterances in manifests]
    turns = [utterance for turn in zip_longest(*orders) for utterance in rng.sample(turn, len(turn)) if utterance]
    pieces, tokens, speechless_s = [torch.zeros(SAMPLE_RATE_HZ // 2)], [], 0.0
    samples = len(pieces[0])
    for number, utterance in enumerate(turns):
        if samples >= seconds * SAMPLE_RATE_HZ:
            break
        tokens += spoken_tokens(utterance, samples / SAMPLE_RATE_HZ)
        pause = torch.zeros(round(rng.uniform(*REST_S) * SAMPLE_RATE_HZ))
        if number % LONG_EVERY == LONG_FIRST:
            pause = speechless(SOUNDS[number // LONG_EVERY % len(SOUNDS)], LONG_S, generator)
            speechless_s += LONG_S
        waveform_S = load_waveform(utterance.audio, utterance.offset, utterance.duration)
        pieces += [waveform_S, pause]
        samples += len(waveform_S) + len(pause)
    return Joined(torch.cat(pieces), tokens, speechless_s)


def by_ours(model: Candidate, device: str, options: dict[str, Any]) -> Callable[[Path], str]:
    """As `evaluate.py transcribe`."""
    transcriber = RecordingTranscriber(model, RecordingDecoding(device=device, **options))
    return lambda path: next(iter(transcriber([path]))).text


def by_faster_whisper(model: Candidate, device: str, options: dict[str, Any]) -> Callable[[Path], str]:
    """As `faster_whisper.WhisperModel.transcribe`, in float32."""
    from faster_whisper import WhisperModel

    folder = convert(model.folder, model.identity, RESULTS / "conversions")
    threads = {"cpu_threads": torch.get_num_threads(), "local_files_only": True}
    whisper = WhisperModel(str(folder), device=device, compute_type="float32", **threads)
    return lambda path: "".join(segment.text for segment in whisper.transcribe(str(path), **options)[0])


PROGRAMS = {"ours": by_ours, "faster-whisper": by_faster_whisper}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="*", default=sorted(ROOT.glob("speech/*-*/test.jsonl")))
    parser.add_argument("--models", nargs="+", default=["base=openai/whisper-base"], help="NAME=PATH")
    parser.add_argument("--seconds", type=float, default=600, help="of a recording")
    parser.add_argument("--recordings", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="ways that have this in their names")
    parser.add_argument("--out", type=Path, default=RESULTS / "long_recording", help="folder for the recordings")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    manifests = [read_manifest(path) for path in given.manifests]
    recordings = {}
    for number in range(given.recordings):
        path = given.out / f"{given.seed}-{number}.flac"
        recordings[path] = joined(manifests, given.seconds, 1000 * given.seed + number)
        soundfile.write(path, recordings[path].waveform_S.numpy(), SAMPLE_RATE_HZ)
    device, results = "cuda" if torch.cuda.is_available() else "cpu", {}
    for model in candidates(given.models):
        for way, (program, options) in WAYS.items():
            if given.only not in way:
                continue
            transcribe, figures = PROGRAMS[program](model, device, options), TranscriptFigures()
            for path, recording in recordings.items():
                begin_s = time.perf_counter()
                text = transcribe(path)
                figures.add(text, recording, time.perf_counter() - begin_s)
                path.with_name(f"{path.stem} {model.name} {way}.txt").write_text(text, encoding="utf-8")
            results[f"{model.name}: {way}"] = asdict(figures)
            print(f"{model.name}: {way}: {figures}", flush=True)
    write({"recordings": len(recordings), "seconds": given.seconds, "ways": results})


if __name__ == "__main__":
    main()

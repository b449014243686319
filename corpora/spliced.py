"""Spliced utterances as a corpus on disk: to listen to, to choose options by, to use elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import soundfile
from tqdm import tqdm

from common.constants import MAX_TOKENS, SAMPLE_RATE_HZ
from common.errors import UserError
from common.files import atomic_folder
from common.manifest import Utterance, read_manifest, write_manifest
from corpora.derived import about, write_record
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_plan import SplicePlan
from datamodules.splicing.splicer import CrossPairSplicer


class _Bytes:
    """Counts bytes: Whisper's tokens are one or more bytes each."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(text.encode())


def write_spliced(
    manifests: Sequence[Path], out: Path, options: Splicing, utterances: int, window_s: float, seed: int
) -> dict[str, Path]:
    """Writes `<out>/<pair>/spliced.jsonl` and its audio for each pair, of so many utterances; returns the manifests.

    `corpus.json` beside a manifest keeps what it was made from. No two utterances of a pair begin from the same host
    until all hosts have been used.

    Raises:
        UserError: where a manifest cannot be read, or a pair cannot be made.
    """
    sources: dict[str, list[Utterance]] = {}
    for manifest in manifests:
        for utterance in read_manifest(manifest):
            sources.setdefault(utterance.pair, []).append(utterance)
    pairs = list(CrossPairSplicer(options, sources, None, _Bytes(), window_s, MAX_TOKENS).hosts)
    written = {}
    for pair in pairs:
        splicer = CrossPairSplicer(replace(options, pairs=[pair]), sources, None, _Bytes(), window_s, MAX_TOKENS)
        written[pair] = out / pair / "spliced.jsonl"
        with atomic_folder(out / pair) as folder:
            rows = []
            (folder / "audio").mkdir()
            for splice in tqdm(
                _splices(splicer, sources, utterances, f"{seed} {pair}"), pair, utterances, disable=None
            ):
                audio = folder / "audio" / f"{len(rows):05d}.wav"
                waveform_S = splicer.sound(splice)
                peak = max(1.0, float(waveform_S.abs().max()))
                soundfile.write(audio, (waveform_S / peak).numpy(), SAMPLE_RATE_HZ, subtype="PCM_16")
                rows.append(replace(splice.utterance, id=f"{pair}-spliced-{len(rows):05d}", audio=audio))
            write_manifest(folder / "spliced.jsonl", rows)
            made_by = {"sources": list(map(str, manifests)), "pattern": options.pattern, "seed": seed}
            write_record(folder, pair, "splice", {"spliced.jsonl": about(rows, **made_by)})
    return written


def _splices(
    splicer: CrossPairSplicer, sources: dict[str, list[Utterance]], utterances: int, seed: str
) -> Iterator[SplicePlan]:
    rng = random.Random(seed)
    hosts = [(pair, utterance) for pair, listed in sources.items() for utterance in listed]
    made = 0
    while True:
        before = made
        for pair, utterance in rng.sample(hosts, len(hosts)):
            if splice := splicer.plan(pair, utterance, rng.getrandbits(56)):
                yield splice
                made += 1
                if made == utterances:
                    return
        if made == before:
            raise UserError(
                f"no utterance of {', '.join(splicer.targets.values())} fits into the window; give a longer one"
            )

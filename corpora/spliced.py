"""Spliced utterances as a corpus on disk: to listen to, to choose options by, or to use elsewhere."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from common.audio import write_sound
from common.constants import MAX_TOKENS
from common.errors import UserError
from common.files import atomic_folder, check_replaceable
from common.manifest import Utterance, read_manifest, write_manifest
from common.printing import warn
from common.progress_meter import progress
from common.trust import audio_outside
from corpora.derived import RECORD, about, earlier_manifests, write_record
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_plan import SplicePlan
from datamodules.splicing.splicer import CrossPairSplicer


class _Bytes:
    """Stands in for a tokenizer; counts bytes, an upper bound, as each of Whisper's tokens is one or more bytes."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(text.encode())


def write_spliced(
    manifests: Sequence[Path], out: Path, options: Splicing, utterances: int, window_s: float, seed: int
) -> dict[str, Path]:
    """Write `<out>/<pair>/spliced.jsonl` and its audio for each pair; returns the manifests by pair.

    `corpus.json` beside a manifest records what it was made from. No two utterances of a pair have the same host until
    every host has been used.

    Args:
        manifests: what to take hosts and inserts from.
        out: the output folder.
        options: how to splice.
        utterances: how many to make of each pair.
        window_s: longest utterance in seconds.
        seed: of the draws.

    Raises:
        UserError: where a manifest cannot be read, a pair cannot be made, or its folder holds anything but a spliced
            corpus.
    """
    sources: dict[str, list[Utterance]] = {}
    for manifest in manifests:
        listed = read_manifest(manifest)
        for utterance in listed:
            sources.setdefault(utterance.pair, []).append(utterance)
        if outside := audio_outside(manifest, {utterance.audio.parent for utterance in listed}):
            warn(f"{out}: gets copies of sound from {outside}; mind that before you pass it on")
    hosts = CrossPairSplicer(options, sources, None, _Bytes(), window_s, MAX_TOKENS).hosts
    for folder in (out / pair for pair in hosts):
        check_replaceable(folder, RECORD, "spliced corpus")
        earlier_manifests(folder, command="splice")
    for pair in hosts:
        splicer = CrossPairSplicer(replace(options, pairs=[pair]), sources, None, _Bytes(), window_s, MAX_TOKENS)
        plans = islice(_plans(splicer, sources, f"{seed} {pair}"), utterances)
        with atomic_folder(out / pair) as folder:
            rows = []
            (folder / "audio").mkdir()
            for plan in progress(plans, pair, utterances):
                audio = folder / "audio" / f"{len(rows):05d}.wav"
                waveform_S = splicer.sound(plan)
                peak = max(1.0, float(waveform_S.abs().max()))
                write_sound(audio, (waveform_S / peak).numpy())
                rows.append(replace(plan.utterance, id=f"{pair}-spliced-{len(rows):05d}", audio=audio))
            write_manifest(folder / "spliced.jsonl", rows)
            made_by = {"sources": list(map(str, manifests)), "pattern": options.pattern, "seed": seed}
            write_record(folder, pair, "splice", {"spliced.jsonl": about(rows, **made_by)})
    return {pair: out / pair / "spliced.jsonl" for pair in hosts}


def _plans(splicer: CrossPairSplicer, sources: dict[str, list[Utterance]], seed: str) -> Iterator[SplicePlan]:
    rng = random.Random(seed)
    hosts = [(pair, utterance) for pair, listed in sources.items() for utterance in listed]
    found = True
    while found:
        found = False
        for pair, utterance in rng.sample(hosts, len(hosts)):
            if plan := splicer.plan(pair, utterance, rng.getrandbits(56)):
                found = True
                yield plan
    raise UserError(f"no utterance of {', '.join(splicer.targets.values())} fits into the window; give a longer one")

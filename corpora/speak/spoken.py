"""From written sentences to a corpus on disk: `<out>/<corpus>/{train,dev,test}.jsonl`, `audio/` and `corpus.json`.

Sentences are spoken in shards by one process per core. A finished shard leaves a record beside the audio, named by a
hash of all its inputs, so that a run that was stopped goes on where it was, and a changed sentence is spoken again.
A split's manifest is written when its last shard is finished, `corpus.json` when the whole corpus is.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from backbone.devices import end_with
from common.audio import SAMPLE_RATE_HZ, write_sound
from common.errors import UserError
from common.files import atomic_file, check_replaceable, sole_writer, write_text
from common.json_lines import read_json
from common.manifest import Span, Utterance, write_manifest
from common.progress_meter import progress
from corpora.derived import RECORD, follows_from, holds
from corpora.manifest_counts import ManifestCounts
from corpora.speak import engines
from corpora.speak.ogg_opus import encode_opus
from corpora.speak.speakers import Reading
from corpora.speak.written import SPLITS

_SHARD = 10
_RECORDS = ".spoken"  # finished shards of an unfinished corpus
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Encoding:
    """How audio is stored.

    Args:
        kind: `flac`, without loss, or `opus`, in an Ogg container.
        bit_rate: of Opus, in bits a second, about.
        longest_s: a sentence that comes out longer is an error.
    """

    kind: str = "flac"
    bit_rate: int = 16_000
    longest_s: float = 30.0


@dataclass(frozen=True)
class _Shard:
    corpus: str
    split: str
    readings: tuple[Reading, ...]
    folder: Path
    engine: str
    encoding: Encoding
    licence: str
    key: str

    @property
    def record(self) -> Path:
        return self.folder / _RECORDS / f"{self.key}.json"


def write_spoken(
    readings: Sequence[Reading],
    out: Path,
    engine: str,
    encoding: Encoding,
    *,
    licence: str,
    processes: int | None = None,
) -> list[Path]:
    """Speak sentences and write their corpora; return the corpora's folders. What is there is not spoken again.

    Test sentences of all corpora come first, then development, then training sentences.

    Args:
        readings: sentences with their speakers.
        out: gets a folder a corpus.
        engine: a name in `engines.ENGINES`.
        encoding: of the audio.
        licence: of the sentences, for the manifests.
        processes: side by side; None is one a core.

    Raises:
        UserError: naming the sentences, where the engine cannot speak one, before any is spoken; or where one is too
            long.
    """
    chosen = engines.ENGINES[engine]()
    sounds = _sounds(readings, chosen)
    about = {**chosen.about(), "encoding": dataclasses.asdict(encoding)}
    about["licence"] = f"{licence}; {about['licence']}"
    corpora = list(dict.fromkeys(reading.sentence.corpus for reading in readings))
    shards = _shards(readings, sounds, out, engine, encoding, about)
    with sole_writer(out / "speak"):
        recipes = {corpus: _recipe(corpus, shards, about) for corpus in corpora}
        unfinished = [corpus for corpus in corpora if not follows_from(out / corpus, recipes[corpus])]
        for corpus in unfinished:
            _check_own(out / corpus)
        _speak_missing([shard for shard in shards if shard.corpus in unfinished], chosen, processes)
        for corpus in unfinished:
            _finish([shard for shard in shards if shard.corpus == corpus], recipes[corpus])
    return [out / corpus for corpus in corpora]


def _sounds(readings: Sequence[Reading], engine: engines.SpeechEngine) -> list[str]:
    """What the engine will say for each reading.

    Raises:
        UserError: naming the sentences that it cannot speak.
    """
    sounds, wrong = [], []
    for reading in readings:
        try:
            sounds.append(engine.sounds(reading.sentence.spans))
        except ValueError as error:
            wrong.append(f"{reading.sentence.where}: sentence {reading.sentence.id!r}: {error}")
    if wrong:
        more = [f"and {len(wrong) - _ERRORS_SHOWN} more"] * (len(wrong) > _ERRORS_SHOWN)
        raise UserError(*wrong[:_ERRORS_SHOWN], *more)
    return sounds


def _shards(
    readings: Sequence[Reading],
    sounds: Sequence[str],
    out: Path,
    engine: str,
    encoding: Encoding,
    about: dict[str, Any],
) -> list[_Shard]:
    """Divide the sentences of each corpus and split into shards, test first and training last."""
    places: dict[tuple[str, str], list[tuple[Reading, str]]] = {}
    for reading, sound in zip(readings, sounds, strict=True):
        places.setdefault((reading.sentence.corpus, reading.sentence.split), []).append((reading, sound))
    shards = []
    for corpus, split in sorted(places, key=lambda place: SPLITS[::-1].index(place[1])):
        together = places[corpus, split]
        for start in range(0, len(together), _SHARD):
            some = together[start : start + _SHARD]
            said = [(r.sentence.id, len(r.sentence.spans), sound, r.speaker.voices, r.speed) for r, sound in some]
            key = hashlib.sha256(json.dumps([about, said], sort_keys=True).encode()).hexdigest()[:16]
            chosen = tuple(reading for reading, _ in some)
            shards.append(_Shard(corpus, split, chosen, out / corpus, engine, encoding, about["licence"], key))
    return shards


def _check_own(folder: Path) -> None:
    """Check that a corpus's folder is new, or holds a spoken corpus, finished or not: other files would be lost."""
    if not (folder / _RECORDS).is_dir():
        check_replaceable(folder, RECORD, "spoken corpus")
        if (folder / RECORD).is_file() and not holds(folder, "speakers"):
            raise UserError(f"{folder}: a corpus that was not spoken lies there; choose another --out")


def _recipe(corpus: str, shards: Sequence[_Shard], about: dict[str, Any]) -> dict[str, Any]:
    """What determines a corpus, for its record."""
    keys = sorted(shard.key for shard in shards if shard.corpus == corpus)
    return {"corpus": corpus, **about, "made_from": hashlib.sha256("".join(keys).encode()).hexdigest()[:16]}


def _speak_missing(shards: Sequence[_Shard], engine: engines.SpeechEngine, processes: int | None) -> None:
    missing = [shard for shard in shards if not shard.record.is_file()]
    if not missing:
        return
    processes = min(processes or os.cpu_count() or 1, len(missing))
    with contextlib.ExitStack() as stack:
        spoken: Iterable[tuple[_Shard, str]] = map(_speak, missing)
        if processes > 1 or not engine.stateless:
            context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together
            rest = None if engine.stateless else 1
            pool = stack.enter_context(context.Pool(processes, _begin_worker, (os.getpid(),), maxtasksperchild=rest))
            spoken = pool.imap_unordered(_speak, missing)
        total = sum(len(shard.readings) for shard in missing)
        for shard, error in progress(spoken, "sentences", total, lambda result: len(result[0].readings)):
            if error:
                raise UserError(error)
            split = [other for other in shards if (other.corpus, other.split) == (shard.corpus, shard.split)]
            if all(member.record.is_file() for member in split):
                _write_split(split)


def _begin_worker(parent: int) -> None:
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers; end_with does if it is killed
    torch.set_num_threads(1)


_engines: dict[str, engines.SpeechEngine] = {}


def _speak(shard: _Shard) -> tuple[_Shard, str]:
    """Speak a shard, in a process of the pool; return it with what went wrong, if anything."""
    if shard.engine not in _engines:
        _engines[shard.engine] = engines.ENGINES[shard.engine]()
    rows = []
    for reading in shard.readings:
        sentence = reading.sentence
        speech = _engines[shard.engine].say(sentence.spans, reading.speaker, reading.speed)
        duration_s = len(speech.samples_S) / SAMPLE_RATE_HZ
        if duration_s > shard.encoding.longest_s:
            longest_s = shard.encoding.longest_s
            return (
                shard,
                f"{sentence.where}: sentence {sentence.id!r} lasts {duration_s:.1f} s, at most {longest_s:g} s",
            )
        with atomic_file(_audio(shard, reading)) as partial:
            if shard.encoding.kind == "opus":
                encoded = encode_opus(speech.samples_S.numpy(), SAMPLE_RATE_HZ, shard.encoding.bit_rate)
                partial.write_bytes(encoded)
            else:
                write_sound(partial, speech.samples_S.numpy(), "FLAC")
        rows.append([duration_s, speech.borders_s])
    write_text(shard.record, json.dumps(rows) + "\n")
    return shard, ""


def _audio(shard: _Shard, reading: Reading) -> Path:
    return shard.folder / "audio" / f"{reading.sentence.id}.{shard.encoding.kind}"


def _write_split(shards: Sequence[_Shard]) -> dict[str, Any]:
    """Write a split's manifest and labels; return its statistics."""
    utterances, labels = [], {}
    for shard in shards:
        rows = read_json(shard.record)
        for reading, (duration_s, borders_s) in zip(shard.readings, rows, strict=True):
            utterances.append(_utterance(shard, reading, duration_s, borders_s))
            if reading.sentence.labels:
                labels[reading.sentence.id] = reading.sentence.labels
    path = shards[0].folder / f"{shards[0].split}.jsonl"
    write_manifest(path, utterances)
    if labels:
        write_text(path.with_suffix(".labels.json"), json.dumps(labels, ensure_ascii=False, indent=1) + "\n")
    return ManifestCounts.of(utterances).as_dict()


def _utterance(shard: _Shard, reading: Reading, duration_s: float, borders_s: Sequence[float]) -> Utterance:
    sentence = reading.sentence
    return Utterance(
        id=sentence.id,
        audio=_audio(shard, reading),
        duration=round(duration_s, 4),
        text=sentence.text,
        pair=sentence.corpus,
        matrix_language=sentence.matrix,
        spans=tuple(
            Span(language, min(start, duration_s), min(end, duration_s), text.strip())
            for (language, text), (start, end) in zip(sentence.spans, pairwise(borders_s), strict=True)
        ),
        speaker=reading.speaker.name,
        source=f"speak-{shard.engine}",
        source_sentence_id=sentence.source_id,
        split=sentence.split,
        licence=shard.licence,
    )


def _finish(shards: Sequence[_Shard], recipe: dict[str, Any]) -> None:
    """Write the record of the whole corpus, and remove audio that an earlier sentence set left."""
    folder = shards[0].folder
    manifests = {}
    for split in dict.fromkeys(shard.split for shard in shards):
        manifests[f"{split}.jsonl"] = _write_split([shard for shard in shards if shard.split == split])
    speakers = {reading.speaker.name: dict(reading.speaker.voices) for shard in shards for reading in shard.readings}
    about = {**recipe, "speakers": speakers, "manifests": manifests}
    write_text(folder / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    wanted = {_audio(shard, reading).name for shard in shards for reading in shard.readings}
    for stale in (folder / "audio").iterdir():
        if stale.name not in wanted:
            stale.unlink()
    shutil.rmtree(folder / _RECORDS)

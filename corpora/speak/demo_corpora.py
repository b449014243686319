"""The demo's corpora on disk: which voices speak which sentences, and the manifests that say so.

Every corpus has its own few voices, as real corpora have, and test voices train nothing. Sentences and audio follow
from the seed alone: shards of a fixed size are each spoken by a fresh process, whatever the number of workers.
"""

import hashlib
import multiprocessing
import os
import random
import signal
from itertools import pairwise, starmap
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tqdm import tqdm

from common.files import atomic_folder, check_replaceable
from common.manifest import Span, Utterance, write_manifest
from corpora.derived import RECORD, earlier_manifests, follows_from, write_json
from corpora.manifest_counts import ManifestCounts
from corpora.speak import espeak
from corpora.speak.sentences import Sentence, SentenceStream

SEED = "crosspair-demo-1"
LONGEST_S = 4.9  # under the demo backbone's window of 5 s
COUNTS = {"test": 200, "dev": 64, "train": 584}
LICENCE = "Apache-2.0 (sentences); audio generated with espeak-ng"
_SHARD = 50
_HERE = Path(__file__).parent


class DemoCorpus(NamedTuple):
    """A corpus of the demo: its languages, matrix first, and who speaks in it."""

    name: str
    voices: dict[str, list[str]]
    """The voices of `train` and `test`; training voices also speak the development sentences."""

    @property
    def matrix(self) -> str:
        """The language of the templates."""
        return self.name.split("-")[0]


CORPORA = list(starmap(DemoCorpus, yaml.safe_load((_HERE / "demo_voices.yaml").read_text(encoding="utf-8")).items()))


def write_demo(out: Path, *, progress: bool = True) -> None:
    """Writes every corpus of the demo that is not there yet: `<out>/<corpus>/{train,dev,test}.jsonl` and its audio.

    Raises:
        UserError: where espeak-ng is not installed.
    """
    _write([(corpus, COUNTS, out / corpus.name) for corpus in CORPORA], progress)


def write_backbone(out: Path, count: int, *, progress: bool = True) -> None:
    """Writes training utterances of each language: sentences that are not in the demo's dev or test, and phrase salads.

    Args:
        out: gets a folder a language.
        count: how many sentences a language, and how many salads.
        progress: whether to show a progress bar.

    Raises:
        UserError: where espeak-ng is not installed.
    """
    counts = {"train": count, "salad": count}
    _write([(corpus, counts, out / corpus.name) for corpus in CORPORA if corpus.name == corpus.matrix], progress)


def draw(corpus: DemoCorpus, counts: dict[str, int]) -> dict[str, list[Sentence]]:
    """The sentences of each split; those of test and dev are the same whatever the counts ask for.

    No mixed corpus repeats an earlier one: a Korean sentence around `laptop` would be both ko-en and ko-de.
    """
    source = SentenceStream(corpus.name, SEED, seen=_said_before(corpus))
    held_out = {split: source.take(COUNTS[split]) for split in ("test", "dev")}
    others = {split: source.take(n, salad=split == "salad") for split, n in counts.items() if split not in held_out}
    return {split: others[split] if split in others else held_out[split][:n] for split, n in counts.items()}


def _said_before(corpus: DemoCorpus) -> set[str]:
    """The keys of the sentences of mixed corpora before this one in the same matrix language."""
    before = CORPORA[: CORPORA.index(corpus)] if corpus.name != corpus.matrix else ()
    drawn = (draw(other, COUNTS).values() for other in before if other.matrix == corpus.matrix)
    return {sentence.key for splits in drawn for sentences in splits for sentence in sentences}


def _write(wanted: list[tuple[DemoCorpus, dict[str, int], Path]], progress: bool) -> None:
    espeak.require()
    recipe = {"source": "espeak-ng", "seed": SEED, "made_by": _digest()}
    missing = [one for one in wanted if not follows_from(one[2], {**recipe, "counts": one[1]})]
    for corpus, _, folder in missing:
        check_replaceable(folder, RECORD, "corpus of the demo")
        earlier_manifests(folder, corpus=corpus.name, source=recipe["source"])
    total = sum(sum(counts.values()) for _, counts, _ in missing)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ignore_interrupts = (signal.signal, (signal.SIGINT, signal.SIG_IGN))  # the parent ends its workers
    with tqdm(total=total, unit=" utterances", disable=not progress or not total) as bar:
        for corpus, counts, folder in missing:
            bar.set_description(f"speaking {corpus.name}")
            pool = context.Pool(os.cpu_count(), *ignore_interrupts, maxtasksperchild=1)
            with atomic_folder(folder) as partial, pool:
                manifests = _write_corpus(corpus, counts, partial, pool, bar)
                about = {"corpus": corpus.name, **recipe, "counts": counts, "licence": LICENCE, "manifests": manifests}
                write_json(partial / RECORD, about)


def _write_corpus(corpus: DemoCorpus, counts: dict[str, int], folder: Path, pool: Pool, bar: tqdm) -> dict[str, Any]:
    """Writes audio and manifests; returns each manifest's statistics."""
    audio = folder / "audio"
    audio.mkdir()
    shards = []
    for split, sentences in draw(corpus, counts).items():
        for start in range(0, len(sentences), _SHARD):
            shard = sentences[start : start + _SHARD]
            lines = _lines(corpus, split, start, shard)
            key = repr((corpus.name, split, start)).encode()
            seed = int.from_bytes(hashlib.blake2b(key, digest_size=3).digest(), "big")
            shards.append((split, shard, lines, pool.apply_async(espeak.speak_all, (lines, audio, seed))))
    utterances: dict[str, list[Utterance]] = {split: [] for split in counts}
    for split, shard, lines, spoken in shards:
        for sentence, line, result in zip(shard, lines, spoken.get(), strict=True):
            utterances[split].append(_utterance(corpus, split, sentence, line, result, audio))
        bar.update(len(shard))
    for split, rows in utterances.items():
        write_manifest(folder / f"{split}.jsonl", rows)
    return {f"{split}.jsonl": ManifestCounts.of(rows).as_dict() for split, rows in utterances.items()}


def _lines(corpus: DemoCorpus, split: str, start: int, sentences: list[Sentence]) -> list[espeak.Line]:
    rng = random.Random(f"{SEED} {corpus.name} {split} {start}")
    voices = corpus.voices["test" if split == "test" else "train"]
    # Words per minute, and espeak-ng's pitch. Where there are many voices, they also vary more than test voices do.
    rates, pitches = ((130, 205), (20, 80)) if len(voices) > 10 else ((145, 190), (35, 65))
    lines = []
    for i, sentence in enumerate(sentences, start):
        voice = espeak.Voice(voices[i % len(voices)], rng.randint(*rates), rng.randint(*pitches))
        spans = tuple((language, said) for language, _, said in sentence.spans)
        lines.append(espeak.Line(f"{corpus.name}-{split}-{i:05d}", voice, spans, LONGEST_S))
    return lines


def _utterance(
    corpus: DemoCorpus, split: str, sentence: Sentence, line: espeak.Line, spoken: espeak.Spoken, audio: Path
) -> Utterance:
    times = zip(sentence.spans, pairwise(spoken.borders_s), strict=True)
    return Utterance(
        id=line.name,
        audio=audio / f"{line.name}.wav",
        duration=round(spoken.duration_s, 4),
        text=sentence.text,
        pair=corpus.name,
        matrix_language=corpus.matrix,
        spans=tuple(Span(language, start, end, text) for (language, text, _), (start, end) in times),
        speaker=line.voice.variant,
        source="crosspair-demo",
        source_sentence_id=sentence.id,
        split=split,
        licence=LICENCE,
    )


def _digest() -> str:
    """A hash of the words, templates and code of this package: a corpus of another version is made again."""
    digest = hashlib.blake2b(digest_size=8)
    for pattern in ("*.py", "*.yaml", "lexicon/*.tsv", "templates/*.txt"):
        for file in sorted(_HERE.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()

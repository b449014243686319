"""The demo's corpora on disk: which voices speak which sentences, and the manifests that say so.

Every corpus has its own few voices, as real corpora have, and test voices train nothing. Sentences and audio follow
from the seed alone: shards of a fixed size are each spoken by a fresh process, whatever the number of workers.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.files import atomic_folder, write_text
from common.manifest import Span, Utterance, write_manifest
from corpora.manifest_counts import ManifestCounts
from corpora.speak import espeak
from corpora.speak.sentences import Sentence, SentenceStream

SEED = "crosspair-demo-1"
LONGEST_S = 4.9  # under the demo backbone's window of 5 s
COUNTS = {"test": 200, "dev": 64, "train": 584}
LICENCE = "Apache-2.0 (sentences); audio generated with espeak-ng"
_SHARD = 50

# Voice variants of espeak-ng that sound like people, and differ.
_TEST_VOICES = ("f3", "m3", "Annie", "Michael", "linda", "max", "aunty", "m6")
# fmt: off
_MANY_VOICES = (
    "f1", "f2", "f4", "f5", "m1", "m2", "m4", "m5", "m7", "m8", "Alex", "Alicia", "Andrea", "Andy", "Denis", "Diogo",
    "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Mike", "Nguyen", "Reed", "RicishayMax", "Storm",
    "adam", "anika", "antonio", "belinda", "benjamin", "boris", "david", "ed", "edward", "grandma", "grandpa",
    "gustave", "ian", "iven3", "iven4", "john", "kaukovalta", "klatt", "klatt3", "marcelo", "michel", "miguel",
    "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor",
)
# fmt: on
# Words a minute and espeak-ng's pitch. Many training voices also cover more than a test voice will ask for.
_RATES, _PITCHES = (145, 190), (35, 65)
_MANY_RATES, _MANY_PITCHES = (130, 205), (20, 80)


@dataclass(frozen=True)
class DemoCorpus:
    """A corpus of the demo: its languages, matrix first, and who speaks in it."""

    name: str
    train_voices: tuple[str, ...]
    test_voices: tuple[str, ...]

    @property
    def matrix(self) -> str:
        """The language of the templates."""
        return self.name.split("-")[0]

    def voices(self, split: str) -> tuple[str, ...]:
        """The voices of a split; development sentences come from the training voices, as from a corpus cut in two."""
        return self.test_voices if split == "test" else self.train_voices


CORPORA = (
    DemoCorpus("ko-en", ("f1", "m1", "Alex", "anika"), ("f3", "m3", "Annie", "Michael")),
    DemoCorpus("ja-en", ("f2",), ("linda", "m6")),
    DemoCorpus("de-en", ("m2", "f4", "adam"), ("max", "aunty", "m3")),
    DemoCorpus("ko-de", ("m4", "shelby", "Reed"), ("f3", "m6", "linda")),
    DemoCorpus("ko-ja", ("f5", "m7"), ("Annie", "max")),
    *(DemoCorpus(language, _MANY_VOICES, _TEST_VOICES) for language in ("ko", "ja", "de", "en")),
)


def write_demo(out: Path, *, progress: bool = True) -> None:
    """Writes every corpus of the demo that is not there yet: `<out>/<corpus>/{train,dev,test}.jsonl` and its audio.

    Raises:
        UserError: where espeak-ng is not installed.
    """
    _write([(corpus, COUNTS, out / corpus.name) for corpus in CORPORA], progress)


def write_backbone(out: Path, count: int, *, progress: bool = True) -> None:
    """Writes training utterances of each single language: sentences, none of the demo's dev or test, and phrase salads.

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

    No mixed corpus repeats one before it: a Korean sentence around `laptop` would be both ko-en and ko-de.
    """
    source = SentenceStream(corpus.name, SEED, seen=_said_before(corpus))
    held_out = {split: source.take(COUNTS[split]) for split in ("test", "dev")}
    return {
        split: held_out[split][:n] if split in held_out else source.take(n, salad=split == "salad")
        for split, n in counts.items()
    }


def _said_before(corpus: DemoCorpus) -> set[str]:
    """The keys of the sentences of mixed corpora before this one in the same matrix language."""
    before = CORPORA[: CORPORA.index(corpus)] if corpus.name != corpus.matrix else ()
    drawn = (draw(other, COUNTS).values() for other in before if other.matrix == corpus.matrix)
    return {sentence.key for splits in drawn for sentences in splits for sentence in sentences}


def _write(wanted: list[tuple[DemoCorpus, dict[str, int], Path]], progress: bool) -> None:
    espeak.require()
    made_by = _digest()
    missing = [
        (corpus, counts, folder) for corpus, counts, folder in wanted if not _is_whole(folder, _recipe(made_by, counts))
    ]
    total = sum(sum(counts.values()) for _, counts, _ in missing)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with tqdm(total=total, unit=" utterances", disable=not progress or not total) as bar:
        for corpus, counts, folder in missing:
            bar.set_description(f"speaking {corpus.name}")
            with (
                atomic_folder(folder) as partial,
                context.Pool(
                    os.cpu_count(), signal.signal, (signal.SIGINT, signal.SIG_IGN), maxtasksperchild=1
                ) as pool,
            ):
                manifests = _write_corpus(corpus, counts, partial, pool, bar)
                about = {"corpus": corpus.name, **_recipe(made_by, counts), "licence": LICENCE, "manifests": manifests}
                write_text(partial / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")


def _write_corpus(
    corpus: DemoCorpus, counts: dict[str, int], folder: Path, pool: Pool, bar: tqdm
) -> dict[str, dict[str, Any]]:
    """Writes audio and manifests; returns each manifest's statistics."""
    (folder / "audio").mkdir()
    sentences = draw(corpus, counts)
    shards = [
        (split, start, sentences[split][start : start + _SHARD])
        for split in sentences
        for start in range(0, len(sentences[split]), _SHARD)
    ]
    utterances: dict[str, list[Utterance]] = {split: [] for split in sentences}
    jobs = [(_lines(corpus, *shard), folder / "audio", _number(corpus.name, *shard[:2])) for shard in shards]
    for (split, _, said), (lines, audio, _), spoken in zip(shards, jobs, pool.imap(_speak, jobs), strict=True):
        for sentence, line, result in zip(said, lines, spoken, strict=True):
            utterances[split].append(_utterance(corpus, split, sentence, line, result, audio))
        bar.update(len(said))
    manifests = {}
    for split, rows in utterances.items():
        write_manifest(folder / f"{split}.jsonl", rows)
        statistics = ManifestCounts()
        for utterance in rows:
            statistics.add(utterance)
        manifests[f"{split}.jsonl"] = statistics.as_dict()
    return manifests


def _speak(job: tuple[list[espeak.Line], Path, int]) -> list[espeak.Spoken]:
    return espeak.speak_all(*job)


def _lines(corpus: DemoCorpus, split: str, start: int, sentences: list[Sentence]) -> list[espeak.Line]:
    rng = random.Random(f"{SEED} {corpus.name} {split} {start}")
    voices = corpus.voices(split)
    rates, pitches = (_MANY_RATES, _MANY_PITCHES) if voices == _MANY_VOICES else (_RATES, _PITCHES)
    return [
        espeak.Line(
            name=f"{corpus.name}-{split}-{i:05d}",
            voice=espeak.Voice(voices[i % len(voices)], rng.randint(*rates), rng.randint(*pitches)),
            spans=tuple((language, said) for language, _, said in sentence.spans),
            longest_s=LONGEST_S,
        )
        for i, sentence in enumerate(sentences, start)
    ]


def _utterance(
    corpus: DemoCorpus, split: str, sentence: Sentence, line: espeak.Line, spoken: espeak.Spoken, audio: Path
) -> Utterance:
    return Utterance(
        id=line.name,
        audio=audio / f"{line.name}.wav",
        duration=round(spoken.duration_s, 4),
        text=sentence.text,
        pair=corpus.name,
        matrix_language=corpus.matrix,
        spans=tuple(
            Span(language, start, end, text)
            for (language, text, _), (start, end) in zip(sentence.spans, pairwise(spoken.borders_s), strict=True)
        ),
        speaker=line.voice.variant,
        source="crosspair-demo",
        source_sentence_id=sentence.id,
        split=split,
        licence=LICENCE,
    )


def _number(*key: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=3).digest(), "big")


def _digest() -> str:
    """Stands for the words, templates and code of this package: a corpus made by others is made again."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for pattern in ("*.py", "lexicon/*.tsv", "templates/*.txt"):
        for file in sorted(here.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _recipe(made_by: str, counts: dict[str, int]) -> dict[str, Any]:
    """What a corpus follows from."""
    return {"source": "espeak-ng", "seed": SEED, "made_by": made_by, "counts": counts}


def _is_whole(folder: Path, recipe: dict[str, Any]) -> bool:
    try:
        about = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and all(about.get(name) == value for name, value in recipe.items())

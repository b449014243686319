"""Who speaks which sentence: each corpus has its own few speakers, and those of the test sentences train nothing."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import yaml

from corpora.speak.engine import Speaker, SpeechEngine
from corpora.speak.written import WrittenSentence

# Training and test speakers of each corpus.
SPEAKERS: dict[str, list[int]] = yaml.safe_load(Path(__file__).with_name("speakers.yaml").read_text(encoding="utf-8"))
Numbers = tuple[int | None, int | None]
_SPEEDS = (0.9, 1.05)
_CONCENTRATION = 0.6  # of the Dirichlet distribution: below 1, one or two voices dominate a mixture
_HELD_OUT_SHARE = (0.5, 0.9)


@dataclass(frozen=True)
class Reading:
    """A sentence with its speaker and how fast they speak; 1 is the engine's own speed."""

    sentence: WrittenSentence
    speaker: Speaker
    speed: float


def assign(
    sentences: Iterable[WrittenSentence], engine: SpeechEngine, numbers: Numbers = (None, None), seed: int = 0
) -> list[Reading]:
    """Give each sentence a speaker, in turn within its corpus and split.

    Development sentences have the training speakers, as if a corpus had been cut in two.

    Args:
        sentences: in any order; that of each split decides who speaks what.
        engine: whose voices are mixed.
        numbers: of each corpus's training and test speakers; None takes as many as the recorded corpus of its name has.
        seed: of the mixtures and the speeds.
    """
    turns: dict[tuple[str, str], count[int]] = {}
    casts: dict[tuple[str, bool], list[Speaker]] = {}
    readings = []
    for sentence in sentences:
        tested = sentence.split == "test"
        if (sentence.corpus, tested) not in casts:
            usual = SPEAKERS.get(sentence.corpus, SPEAKERS["others"])[tested]
            casts[sentence.corpus, tested] = cast(sentence.corpus, tested, numbers[tested] or usual, engine, seed)
        members = casts[sentence.corpus, tested]
        turn = next(turns.setdefault((sentence.corpus, sentence.split), count()))
        speed = random.Random(f"{seed} {sentence.corpus} {sentence.id}").uniform(*_SPEEDS)
        readings.append(Reading(sentence, members[turn % len(members)], round(speed, 3)))
    return readings


def cast(corpus: str, tested: bool, number: int, engine: SpeechEngine, seed: int) -> list[Speaker]:
    """Return a corpus's speakers, for training or for test.

    A training speaker is a mixture of the engine's training voices; at least half of a test speaker is a voice
    that no training speaker has a share of. An engine that cannot mix gives each speaker a single voice.

    Args:
        corpus: its name, also the beginning of the speakers' names.
        tested: whether they speak test sentences.
        number: of speakers.
        engine: whose voices they are.
        seed: of the mixtures.
    """
    return [_speaker(f"{corpus}-{'test' if tested else 'train'}-{i}", i, tested, engine, seed) for i in range(number)]


def _speaker(name: str, index: int, tested: bool, engine: SpeechEngine, seed: int) -> Speaker:
    rng = random.Random(f"{seed} {name}")
    own = engine.held_out_voices if tested else engine.voices
    if not engine.mixes:
        shuffled = random.Random(f"{seed} {name.rsplit('-', 1)[0]}").sample(own, len(own))
        return Speaker(name, ((shuffled[index % len(own)], 1.0),))
    if not tested:
        return Speaker(name, _mixture(engine.voices, 1.0, rng))
    share = rng.uniform(*_HELD_OUT_SHARE)
    return Speaker(name, (*_mixture(own, share, rng), *_mixture(engine.voices, 1 - share, rng)))


def _mixture(voices: Sequence[str], whole: float, rng: random.Random) -> tuple[tuple[str, float], ...]:
    """Draw weights of voices from a Dirichlet distribution, adding up to `whole`."""
    drawn = [rng.gammavariate(_CONCENTRATION, 1) for _ in voices]
    return tuple((voice, round(whole * weight / sum(drawn), 4)) for voice, weight in zip(voices, drawn, strict=True))

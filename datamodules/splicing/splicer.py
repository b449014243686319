"""The splicer: from an utterance and a seed to an utterance of another pair.

A Korean-English sentence whose English is replaced by Japanese from Japanese-English sentences is Korean-Japanese
speech: every word was spoken, only the switches were not. The number of pairs grows quadratically with the languages,
the speech that splicing needs only linearly. `inserts` holds the sources, `splice_plan` decides what to join,
`splice_text` and `splice_audio` join it.

Shape suffixes: S samples at 16 kHz.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from torch import Tensor

from backbone.language_tags import Tokenizer
from common.audio import SAMPLE_RATE_HZ
from common.errors import UserError, nearest
from common.manifest import Utterance
from datamodules.skips import SkippedUtterance
from datamodules.splicing.inserts import InsertPool, Room
from datamodules.splicing.phrases import Translations
from datamodules.splicing.splice_audio import UnreadableInsert, spliced_audio
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_plan import (
    SplicePlan,
    chain_pattern,
    fill,
    host_pattern,
    parallel_pattern,
    spliced_utterance,
)
from datamodules.splicing.stretches import Stretch, cuttable

_PROMPT_TOKENS = 5  # a prompt with two language tags, and the end token

Utterances = Mapping[str, Sequence[Utterance]]


@dataclass(eq=False)
class CrossPairSplicer:
    """Turns utterances into utterances of other pairs; the outcome is a function of utterance and seed alone.

    An utterance stays as it is where it cannot be cut (see `stretches.stretches`), or leaves no room in the model's
    window for an insert.

    Args:
        options: how to splice.
        training: the utterances trained on, by pair: the hosts.
        sources: the utterances to take inserts from, by pair; those trained on where there are no others.
        tokenizer: the model's.
        window_s: seconds that the model holds.
        max_tokens: tokens that its decoder holds, prompt included.

    Raises:
        UserError: where a pair cannot be made, saying why.
    """

    options: Splicing
    training: Utterances
    sources: Utterances | None
    tokenizer: Tokenizer
    window_s: float
    max_tokens: int

    def __post_init__(self) -> None:
        room = Room(int(self.window_s * SAMPLE_RATE_HZ), self.max_tokens - _PROMPT_TOKENS)
        sources = self.sources or self.training
        self.pool = InsertPool(self.options, sources, self._tokens, room)
        self.translations = None
        if self.options.pattern == "parallel":
            path, shortest_s = Path(self.options.phrases), self.options.shortest_s
            self.translations = Translations(path, sources, shortest_s, self._tokens)
        pairs = self.options.pairs or _unrecorded([*self.training, *sources])
        self.targets = {frozenset(pair.split("-")): pair for pair in pairs}
        self.left_out: dict[str, dict[str, int]] = {}
        self.hosts: Counter[str] = Counter()
        self._count_hosts()
        self._check()

    def __call__(
        self, pair: str, utterance: Utterance, seed: int, tries: int = 1
    ) -> tuple[tuple[Utterance, Tensor] | None, tuple[SkippedUtterance, ...]]:
        """Splices an utterance.

        Args:
            pair: the pair that it is trained on with.
            utterance: the host.
            seed: decides whether it is spliced, and how.
            tries: how many plans to make where an insert's audio cannot be read.

        Returns:
            The spliced utterance and its waveform (S,), or None where the utterance stays as it is; and the sources
            that could not be read.

        Raises:
            UserError: where the host's own audio cannot be read.
        """
        skipped: list[SkippedUtterance] = []
        for attempt in range(tries):
            plan = self.plan(pair, utterance, seed, attempt)
            if plan is None:
                break
            try:
                return (plan.utterance, self.sound(plan)), tuple(skipped)
            except UnreadableInsert as error:
                insert = error.insert
                skipped.append(SkippedUtterance(insert.pair, insert.index, insert.utterance.id, str(error)))
        return None, tuple(skipped)

    def plan(self, pair: str, utterance: Utterance, seed: int, attempt: int = 0) -> SplicePlan | None:
        """Decides what to cut and join; None where the utterance stays as it is.

        Args:
            pair: the pair that the utterance is trained on with.
            utterance: the host.
            seed: decides whether it is spliced, and how.
            attempt: another number draws another plan.
        """
        options = self.options
        if random.Random(f"whether to splice {seed}").random() >= options.share_of(pair):
            return None
        cut = next(cuttable([utterance], options.jitter_s, options.shortest_s, Counter()), None)
        choices = self._choices(cut[2]) if cut else []
        if not choices:
            return None
        _, host, found = cut
        rng = random.Random(f"splice {seed} {attempt}")
        kept, other = rng.choice(choices)
        speaker = host.speaker if options.same_speaker else None
        translations = self.translations.draw(found, other, rng, speaker) if self.translations else {}
        if translations:
            pattern = parallel_pattern(host, found[0], translations)
        elif options.pattern == "chain":
            pattern = chain_pattern(host, found, kept, other, rng.randint(*options.spans), rng)
        else:
            pattern = host_pattern(host, found, kept, other, rng)
        excerpts = fill(pattern, self.pool, options.gap_samples, rng, speaker)
        if not excerpts:
            return None
        matrix = None
        if options.pattern != "chain":
            matrix = kept if kept == host.matrix_language else other
        pair = self.targets[frozenset((kept, other))]
        return SplicePlan(spliced_utterance(host, pair, matrix, excerpts, options.gap_samples), excerpts)

    def sound(self, plan: SplicePlan) -> Tensor:
        """The waveform (S,) of a plan; see `splice_audio.spliced_audio`."""
        return spliced_audio(plan.excerpts, self.options)

    def summary(self) -> dict[str, Any]:
        """For a run's record: hosts by pair to make, inserts by language, and why utterances were left out."""
        return {"hosts": dict(self.hosts), "inserts": self.pool.counts(), "left_out": self.left_out}

    # ------------------------------------------------------------------------------------------------------------------

    def _choices(self, found: Sequence[Stretch]) -> list[tuple[str, str]]:
        """The languages of a host that can stay, each with those that can be inserted beside it."""
        languages = dict.fromkeys(stretch.language for stretch in found)
        if self.options.pattern != "chain" and len(found) == 1 and len(found[0].words) == 1:
            return []
        return [
            (kept, other)
            for kept in languages
            for other in self.pool.languages
            if (target := self.targets.get(frozenset((kept, other)))) and self.options.keeps(target, kept)
        ]

    def _tokens(self, text: str) -> int:
        """The tokens that a text takes with a space before it, which may be one more."""
        return len(self.tokenizer.encode(" " + text, add_special_tokens=False)) + 1

    def _count_hosts(self) -> None:
        options = self.options
        for pair, utterances in self.training.items():
            left_out: Counter[str] = Counter()
            for _, _, found in cuttable(utterances, options.jitter_s, options.shortest_s, left_out):
                self.hosts.update(list(dict.fromkeys(self.targets[frozenset(c)] for c in self._choices(found))))
            if left_out:
                self.left_out[pair] = dict(left_out)

    def _check(self) -> None:
        for pair in self.options.share if isinstance(self.options.share, dict) else ():
            if pair not in self.training:
                raise UserError(f"data.splice.share names {pair}, no pair trained on{nearest(pair, self.training)}")
        reasons = sum(map(Counter, self.left_out.values()), self.pool.left_out)
        why = ", ".join(f"{n} utterances {reason}" for reason, n in reasons.items())
        why = why and f"; left out: {why}; python prepare.py align finds spans and their times"
        for pair in self.options.pairs or ():
            for language in pair.split("-"):
                if language not in self.pool.languages:
                    raise UserError(f"data.splice: no span of {language} to make {pair} of{why}")
            if not self.hosts[pair]:
                raise UserError(f"data.splice: no utterance to make {pair} of among {', '.join(self.training)}{why}")
        if not self.hosts:
            raise UserError(
                f"data.splice: no pair to make of {', '.join(self.training)} that is not among them; "
                f"name some in data.splice.pairs, or other speech in data.splice.sources{why}"
            )


def _unrecorded(pairs: Iterable[str]) -> list[str]:
    """All pairs of the languages of some pairs, without those pairs, languages in the order of their appearance."""
    pairs = list(pairs)
    recorded = {frozenset(pair.split("-")) for pair in pairs}
    languages = dict.fromkeys(language for pair in pairs for language in pair.split("-"))
    return [f"{a}-{b}" for a, b in combinations(languages, 2) if frozenset((a, b)) not in recorded]

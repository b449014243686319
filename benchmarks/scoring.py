"""How long scoring takes: `python benchmarks/scoring.py`; one thread, seconds of processor time.

100,000 utterances of 20 tokens with all breakdowns, a third of them with an embedded token in error, of these half
in the other script; and 1,000 bootstrap draws of five test sets of 500.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from measuring import write

from scoring.contributions import UtteranceToScore
from scoring.results import SetScore, score_set, to_dict
from scoring.tolerant import tolerate

KOREAN = ["오늘", "회의", "자료", "정리", "했어요", "는", "을", "좋아", "이번", "주말", "친구", "만나서", "커피"]
ENGLISH = {
    "meeting": "미팅",
    "project": "프로젝트",
    "deadline": "데드라인",
    "review": "리뷰",
    "the": "더",
    "schedule": "스케줄",
    "update": "업데이트",
    "really": "리얼리",
    "nice": "나이스",
    "coffee": "커피",
}


def transcripts(count: int, seed: int) -> list[UtteranceToScore]:
    """Korean sentences with an English phrase, 20 tokens; one syllable in five is wrong, an English word in a third."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        syllables = list("".join(draw.choices(KOREAN, k=14)))[:17]
        words = draw.choices(list(ENGLISH), k=3)
        spans = [("ko", "".join(syllables[:9])), ("en", " ".join(words)), ("ko", "".join(syllables[9:]))]
        written = [letter if draw.random() > 0.2 else draw.choice(["", "하"]) for letter in syllables]
        written[9:9] = f" {' '.join(words)} "
        hypothesis = "".join(written)
        if number % 3 == 0:
            hypothesis = hypothesis.replace(words[0], ENGLISH[words[0]] if number % 2 else "이거")
        reference = " ".join(text for _, text in spans)
        made.append(UtteranceToScore(f"{seed}-{number}", reference, hypothesis, ("ko", "en"), spans=spans))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=100_000)
    count = parser.parse_args().utterances
    utterances = transcripts(count, seed=0)
    start = time.process_time()
    scored = score_set(utterances)
    aligned = time.process_time()
    for utterance in scored.utterances:
        tolerate(utterance.alignment, utterance.languages, "ko")
    tolerant = time.process_time() - aligned  # again: it is a part of the time before
    summed = time.process_time()
    scored.tallies  # noqa: B018  (computed when first asked for)
    tallied = time.process_time() - summed
    tokens = scored.score.counts.reference_tokens / len(utterances)

    sets: list[SetScore] = [score_set(transcripts(500, seed)) for seed in range(1, 6)]
    for one in sets:
        one.tallies  # noqa: B018
    start_draws = time.process_time()
    figures = sum(len(to_dict(one)["figures"]) for one in sets)
    drawn = time.process_time() - start_draws
    seconds = {
        f"{count:,} utterances of {tokens:.0f} tokens, all breakdowns": aligned - start + tallied,
        "of it: aligned, languages and failures found": aligned - start - tolerant,
        "of it: script-tolerant errors": tolerant,
        "of it: figures summed": tallied,
        f"1,000 draws of five sets of 500, {figures // 5} figures each": drawn,
    }
    for what, taken in seconds.items():
        print(f"{what:55} {taken:8.2f} s")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak_gib:.2f} GiB")
    write({"seconds": seconds, "peak_gib": peak_gib})


if __name__ == "__main__":
    main()

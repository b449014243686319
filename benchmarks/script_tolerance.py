"""How near the strict and the script-tolerant count come to marked errors: `python benchmarks/script_tolerance.py`.

The gold set is in benchmarks/script_gold, marked by its README. `--part tune`, `held-out` or `joint` takes one part,
`--rules label lexicon compound token` leaves out what needs espeak-ng, `--wrong` lists the pairs where the tolerant
count and the mark differ. Without a part, the agreement of the two markers is printed, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from scoring.contributions import ScoredUtterance, score_transcript
from scoring.loanwords import RULES, label_spellings
from scoring.tokens import PROFILES
from scoring.tolerant import rules_on, tolerate
from scoring.transcript_files import read_json_lines

GOLD = Path(__file__).parent / "script_gold"
MARKED = ("written", "whisper-base", "joint")
PARTS = ("tune", "held-out", "joint")


@dataclass(frozen=True)
class GoldPair:
    """A scored pair, its marks and where it is from."""

    scored: ScoredUtterance
    row: dict[str, Any]

    @property
    def part(self) -> str:
        """Pairs with an odd number are for tuning, but none of the joint fine-tune's."""
        if self.row["source"] == "joint":
            return "joint"
        return "tune" if int(self.row["id"].rsplit("-", 1)[1]) % 2 else "held-out"

    @property
    def hearing(self) -> int:
        """The errors of hearing."""
        return self.row["hearing_errors"]

    @property
    def target(self) -> int:
        """What the tolerant count aims at: errors of hearing, and spellings of the matrix language."""
        return self.hearing + self.row["matrix_spelling"]

    def tolerant(self, rules: Sequence[str]) -> int:
        """The tolerant count with some of the rules."""
        item, scored = self.scored.transcript, self.scored
        spellings = label_spellings(item.transliterations)
        matrix = scored.transcript.matrix
        return tolerate(
            scored.alignment, scored.languages, matrix, transliterations=spellings, rules=frozenset(rules)
        ).errors


def read_gold() -> list[GoldPair]:
    """Returns all pairs, in the order of their files."""
    pairs = []
    for name in MARKED:
        path = GOLD / f"{name}.jsonl"
        for item, row in zip(read_json_lines(path), read_rows(path), strict=True):
            pairs.append(GoldPair(score_transcript(item, PROFILES["cjk"]), row))
    return pairs


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def distance(counts: Iterable[int], marks: Iterable[int]) -> float:
    """Returns the mean absolute difference of counts and marks."""
    differences = [abs(count - mark) for count, mark in zip(counts, marks, strict=True)]
    return sum(differences) / len(differences)


def wrongly_forgiven(pairs: list[GoldPair], counts: Iterable[int]) -> int:
    """Returns how many errors are missing from the counts: of hearing, and of what no rule claims to forgive."""
    return sum(max(0, min(p.target, p.scored.counts.errors) - count) for p, count in zip(pairs, counts, strict=True))


def report(pairs: list[GoldPair], rules: Sequence[str]) -> None:
    """Prints the figures of some pairs, with rule upon rule."""
    strict = [pair.scored.counts.errors for pair in pairs]
    tolerant = [pair.tolerant(rules) for pair in pairs]
    for name, marks in (("hearing", [p.hearing for p in pairs]), ("in scope", [p.target for p in pairs])):
        near = distance(tolerant, marks) / (distance(strict, marks) or 1)
        print(
            f"  {name:9} marked {sum(marks):4}  strict {distance(strict, marks):.3f}  "
            f"tolerant {distance(tolerant, marks):.3f} an utterance ({near:.2f} of the strict)"
        )
    before = strict
    for rank, rule in enumerate(rules, start=1):
        after = [pair.tolerant(rules[:rank]) for pair in pairs]
        forgiven = sum(before) - sum(after)
        wrong = wrongly_forgiven(pairs, after) - wrongly_forgiven(pairs, before)
        left = distance(after, [pair.hearing for pair in pairs])
        print(f"  {rule:9} forgives {forgiven:4} errors, of these wrongly {wrong:2}; then {left:.3f} an utterance")
        before = after
    lost = wrongly_forgiven(pairs, tolerant)
    total = sum(pair.hearing for pair in pairs)
    print(f"  wrongly forgiven: {lost} of {total} errors of hearing ({100 * lost / total:.1f} %)")


def linear_kappa(first: Sequence[int], second: Sequence[int]) -> float:
    """Returns Cohen's kappa with linear weights: how much less two markers differ than by chance."""
    by_chance = sum(abs(one - other) for one in first for other in second) / len(first) / len(second)
    return 1 - distance(first, second) / by_chance


def report_markers(pairs: list[GoldPair], rules: Sequence[str]) -> None:
    """Prints how two markers agree, and how near the counts come to the second."""
    second = {row["id"]: row["hearing_errors"] for row in read_rows(GOLD / "second_marks.jsonl")}
    marked = [pair for pair in pairs if pair.row["id"] in second]
    for name in ("", *sorted({pair.row["pair"] for pair in marked})):
        chosen = [pair for pair in marked if name in ("", pair.row["pair"])]
        one, other = [pair.hearing for pair in chosen], [second[pair.row["id"]] for pair in chosen]
        same = sum(mark == again for mark, again in zip(one, other, strict=True))
        counts = [[p.scored.counts.errors for p in chosen], [p.tolerant(rules) for p in chosen]]
        near = [f"{distance(count, marks):.2f}" for marks in (one, other) for count in counts]
        print(
            f"  {name or 'all':6} {len(chosen):3} pairs, {sum(one)} and {sum(other)} errors: the same {same}, "
            f"difference {distance(one, other):.2f}, kappa {linear_kappa(one, other):.2f}; "
            f"strict and tolerant from the first {near[0]} {near[1]}, from the second {near[2]} {near[3]}"
        )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=rules_on())
    arguments = parser.parse_args()
    rules = tuple(rule for rule in RULES if rule in arguments.rules)
    gold = read_gold()
    if not arguments.part:
        print("two markers")
        report_markers(gold, rules)
    for part in (arguments.part,) if arguments.part else PARTS:
        pairs = [pair for pair in gold if pair.part == part]
        print(f"{part}: {len(pairs)} pairs")
        report(pairs, rules)
        groups = {f"{pair.row['source']}, {pair.row['pair']}" for pair in pairs}
        for group in sorted(groups | {pair.row["source"] for pair in pairs}):
            print(f" {group}")
            source, _, name = group.partition(", ")
            chosen = [p for p in pairs if p.row["source"] == source and name in ("", p.row["pair"])]
            report(chosen, rules)
        if arguments.wrong:
            for pair in pairs:
                if pair.tolerant(rules) != pair.target:
                    row = pair.row
                    print(
                        f"  {row['id']}: strict {pair.scored.counts.errors}, tolerant {pair.tolerant(rules)}, "
                        f"marked {pair.hearing} + {row['matrix_spelling']}: {row['reference']} | {row['hypothesis']}"
                    )


if __name__ == "__main__":
    main()

"""Which spellings sound alike across scripts: a distance of phones, and how near counts as the same word.

The distance is the cost of the cheapest alignment as a share of the heavier side. A consonant weighs 1, a vowel or
glide a half; what writers add or leave out by their script's habits weighs less. Sounds that borrowing languages
exchange cost nothing or a part. Two words are alike where the distance is at most a quarter and the cost is less than
a vowel's, so that in a long word, too, no consonant and no syllable may differ.
"""

from functools import lru_cache
from itertools import product
from math import inf

from scoring.phones import VOWEL_PHONES

MAX_DISTANCE = 0.25
MAX_COST = 0.45
VOWEL = 0.5
_WEIGHTS = dict.fromkeys("pfθtsckmnŋNl", 1.0) | dict.fromkeys("aeiouæjwh", VOWEL) | {"ə": 0.25, "r": 0.2}
_WEIGHTS |= dict.fromkeys("ɨʉɵ", 0.1)

# What two different phones cost; two vowels that are not here cost 0.5, everything else 1.
_COSTS = {
    0.0: "θt θs fp Nm Nn Nŋ rl æe æa ɨi ʉu ɵo",
    0.1: "ər ra ji wu wo jɨ wʉ",
    0.15: "əa əo",
    0.25: "sc fh oa ou ɵu ʉo əe əu əi əæ",
    0.5: "tc θc hk hp wp mn nŋ mŋ",
}


def _substitutions() -> dict[tuple[str, str], float]:
    costs = {
        (one, other): 0.0 if one == other else 0.5 if {one, other} <= VOWEL_PHONES else 1.0
        for one, other in product(_WEIGHTS, repeat=2)
    }
    for cost, pairs in _COSTS.items():
        costs |= {pair: cost for one, other in pairs.split() for pair in ((one, other), (other, one))}
    return costs


_SUBSTITUTIONS = _substitutions()


@lru_cache(maxsize=1 << 17)
def weight(phones: str) -> float:
    """Return how much the phones weigh together."""
    return sum(map(_WEIGHTS.__getitem__, phones))


@lru_cache(maxsize=1 << 18)
def sound_cost(one: str, other: str, most: float = inf) -> float:
    """Return the cost of the cheapest alignment of two strings of phones.

    Args:
        one: phones.
        other: phones.
        most: a bound; where the cost exceeds it, any larger number may be returned.
    """
    above = [0.0]
    for found in other:
        above.append(above[-1] + _WEIGHTS[found])
    for expected in one:
        lost = _WEIGHTS[expected]
        row = [above[0] + lost]
        for column, found in enumerate(other):
            changed = above[column] + _SUBSTITUTIONS[expected, found]
            row.append(min(changed, above[column + 1] + lost, row[-1] + _WEIGHTS[found]))
        above = row
        if min(row) > most:
            return inf
    return above[-1]


def sound_alike(one: str, other: str) -> bool:
    """Whether two strings of phones may be the same word."""
    first, second = weight(one), weight(other)
    allowed = min(MAX_COST, MAX_DISTANCE * max(first, second))
    return bool(one and other) and abs(first - second) <= allowed and sound_cost(one, other, allowed) <= allowed

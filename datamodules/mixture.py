"""What a run trains on: each pair's manifests with their weights, and its utterances per step."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError, in_range, nearest

# How the manifests of the study's own corpora are made, shown when one is missing.
PREPARE_COMMANDS = {name: f"python prepare.py {name} --source FOLDER" for name in ("aihub", "jecs", "unicom")}
PREPARE_COMMANDS |= {"demo": "python prepare.py demo", "backbone": "make backbone"}
_MOST_UTTERANCES = 10_000  # of a pair and step


class WeightedManifest(NamedTuple):
    """A manifest; each of its utterances is drawn `weight` times in a cycle of its pair."""

    manifest: str
    weight: float = 1.0


def mixture(train: dict[str, Any], pairs: list[str] | None) -> dict[str, list[WeightedManifest]]:
    """The manifests of the chosen pairs, in the order of `pairs`; by default all.

    Raises:
        UserError: where a pair or an entry cannot be understood.
    """
    unknown = [pair for pair in pairs or [] if pair not in train]
    if unknown:
        raise UserError(
            f"data.pairs names {', '.join(unknown)}, for which data.train has no manifest; it has: "
            f"{', '.join(train) or 'none'}{nearest(unknown[0], train)}"
        )
    return {pair: _entries(pair, train[pair]) for pair in pairs or train}


def utterances_of(pairs: Iterable[str], utterances_per_pair: int | dict[str, int]) -> dict[str, int]:
    """Utterances of each pair per step.

    Raises:
        UserError: where a pair is not named, or a number is below 1.
    """
    pairs = list(pairs)
    if isinstance(utterances_per_pair, int):
        in_range("data.utterances_per_pair", utterances_per_pair, 1, _MOST_UTTERANCES)
        return dict.fromkeys(pairs, utterances_per_pair)
    for pair in pairs:
        if pair not in utterances_per_pair:
            raise UserError(f"data.utterances_per_pair lacks {pair}: give one number, or one for every pair")
        in_range(f"data.utterances_per_pair of {pair}", utterances_per_pair[pair], 1, _MOST_UTTERANCES)
    return {pair: utterances_per_pair[pair] for pair in pairs}


def check_manifests(manifests: dict[str, list[WeightedManifest]]) -> None:
    """Checks that every manifest exists.

    Raises:
        UserError: listing every manifest that is missing and how to make it.
    """
    if not manifests:
        raise UserError("data.train names no manifest: choose a recipe, e.g. --config erm.yaml")
    paths = [entry.manifest for entries in manifests.values() for entry in entries]
    missing = [f"  {path}    {_how_to_prepare(path)}" for path in paths if not Path(path).is_file()]
    if missing:
        raise UserError(
            "these training manifests are missing:",
            *missing,
            "To try everything now without any corpus: `python prepare.py demo`, then add `--config demo.yaml`.",
        )


def _entries(pair: str, value: Any) -> list[WeightedManifest]:
    entries = [_entry(pair, item) for item in (value if isinstance(value, list) else [value])]
    if not entries:
        raise UserError(f"data.train.{pair} names no manifest")
    [(manifest, times)] = Counter(entry.manifest for entry in entries).most_common(1)
    if times > 1:
        raise UserError(f"data.train.{pair} names {manifest} twice; to draw it more often give it a weight")
    return entries


def _entry(pair: str, item: Any) -> WeightedManifest:
    item = {"manifest": item} if isinstance(item, str) else item
    where = f"data.train.{pair}"
    if not isinstance(item, dict) or not isinstance(item.get("manifest"), str):
        raise UserError(f"{where}: expected the path of a manifest or {{manifest: PATH, weight: 2}}, found {item!r}")
    if unknown := sorted(set(item) - {"manifest", "weight"}):
        raise UserError(f"{where}: no option {unknown[0]!r}{nearest(unknown[0], ['manifest', 'weight'])}")
    weight = item.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.001 <= weight <= 1000:
        found = f"the weight of {item['manifest']} is {weight!r}"
        raise UserError(f"{where}: {found}, expected a number from 0.001 to 1000")
    return WeightedManifest(item["manifest"], float(weight))


def _how_to_prepare(path: str) -> str:
    commands = (command for corpus, command in PREPARE_COMMANDS.items() if corpus in Path(path).parts)
    return f"<- {next(commands, 'python prepare.py --help')}"

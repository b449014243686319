"""What a study's file may hold: names checked where they stand, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import UserError, nearest

KEYS = {
    "study": "name about root seeds backbone corpora train runs merge evaluate analyze compare curves resources "
    "printed",
    "corpora": "command parts after",
    "runs": "name group config train language",
    "merge": "engine of rows",
    "merge: rows": "name group folder method runs options seeded",
    "analyze": "of threshold",
    "compare": "to rows",
    "curves": "of axis rows beside",
}
_NEEDED = "root seeds backbone corpora runs merge evaluate"


def check_study(settings: Mapping[str, Any]) -> None:
    """Refuses what is no study.

    Raises:
        UserError: naming the place and what was expected.
    """
    if not settings:
        raise UserError("no study is named: add --configfile configs/study/demo.yaml, or another file")
    check_keys("the study", settings, KEYS["study"].split(), _NEEDED.split())
    seeds = settings["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(str(seed).isdecimal() for seed in seeds):
        raise UserError(f"seeds is {seeds!r}, expected a list of whole numbers such as [0, 1, 2]")
    for folder, corpus in settings["corpora"].items():
        check_keys(f"corpora: {folder}", corpus, KEYS["corpora"].split(), ["command"])
    runs = settings["runs"]
    for name, run in runs.items():
        check_keys(f"runs: {name}", run, KEYS["runs"].split(), ["name", "group"])
        check_names(f"runs: {name}: config", run.get("config", ["erm.yaml"]), "recipes such as [erm.yaml, splice.yaml]")
    check_keys("merge", settings["merge"], KEYS["merge"].split())
    _check_runs(runs, "merge: of", settings["merge"].get("of", []))
    if "analyze" in settings:
        check_keys("analyze", settings["analyze"], KEYS["analyze"].split(), ["of"])
        _check_runs(runs, "analyze: of", settings["analyze"]["of"])
    for row in settings["merge"].get("rows", []):
        check_keys("merge: rows", row, KEYS["merge: rows"].split(), ["name", "group", "method"])
        if "runs" in row:
            check_names(f"merge: rows: {row['name']}: runs", row["runs"], "runs to merge")
            _check_runs(runs, f"merge: rows: {row['name']}: runs", row["runs"])
        elif "of" not in settings["merge"]:
            raise UserError(f"merge: rows: {row['name']}: name its 'runs', or in merge: of: those of all rows")


def check_keys(where: str, mapping: Any, known: Iterable[str], needed: Iterable[str] = ()) -> None:
    """Refuses what is no mapping, has a key outside `known`, or lacks one of `needed`.

    Raises:
        UserError: naming the place, the key and the nearest right one.
    """
    known = list(known)
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where}: expected a mapping, found {mapping!r}")
    for key in mapping:
        if key not in known:
            raise UserError(f"{where}: no {key!r}{nearest(str(key), known)} Known: {', '.join(known)}")
    for key in needed:
        if key not in mapping:
            raise UserError(f"{where}: {key!r} is missing")


def check_names(where: str, names: Any, expected: str) -> None:
    """Refuses what is no list of names.

    Raises:
        UserError: naming the place and what was expected.
    """
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} is {names!r}, expected a list of {expected}")


def _check_runs(known: Mapping[str, Any], where: str, runs: Iterable[str]) -> None:
    for run in runs:
        if run not in known:
            raise UserError(f"{where}: no run is called {run!r}{nearest(run, known)}")

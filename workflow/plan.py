"""A study as it is planned: which runs, merges and scores there are, out of which files, by which options.

`workflow/Snakefile` asks here for everything but the commands themselves. A study is a file of `configs/study/`;
`docs/study.md` tells what stands in it.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from common.configs import CONFIGS, find_config, read_yaml
from common.errors import UserError, nearest
from scoring.table import AVERAGES, SEEN, UNSEEN
from workflow.settings import flag, flags, manifests, merged, record_of
from workflow.study_checks import KEYS, check_keys, check_study

BEST = "best"  # stands for the best row of a column


def is_oracle(group: str) -> bool:
    """Whether a group's models were trained on what they are tested on."""
    return group.lower().startswith("oracle")


def _language(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's own policy of language tags, if it has one."""
    return {"language": row["language"]} if "language" in row else {}


@dataclass(frozen=True)
class Merge:
    """A merged model of each seed: `folder` lies within the seed's, `runs` are what is merged.

    `listed` tells of one that a row asks for by its runs, and not as a subset among others.
    """

    name: str
    group: str
    folder: str
    method: str
    runs: tuple[str, ...]
    options: Mapping[str, Any]
    seeded: bool
    listed: bool = False


@dataclass(frozen=True)
class Curve:
    """A line figure: a column's figures, of rows by their place on the axis, and of rows beside as level lines."""

    of: str
    axis: str
    rows: Mapping[str, float]
    beside: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study's file, checked: `settings` is its content as it was read."""

    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuses what is no study.

        Raises:
            UserError: naming the place and what was expected.
        """
        check_study(self.settings)
        self._check_name()
        if "compare" in self.settings or "curves" in self.settings:  # rather now than after hours of training
            _ = self.compared, self.curves

    def _check_name(self) -> None:
        taken = {"study", "logs", "benchmarks", "analysis", "decoded", *self.runs}
        taken |= {Path(folder).parts[0] for folder in self.merges}
        if "name" in self.settings and (not re.fullmatch(r"[\w-]+", str(self.name)) or self.name in taken):
            raise UserError(
                f"name is {self.name!r}, expected letters, digits, - and _, and no other folder's name: it becomes one"
            )

    # Folders

    @property
    def name(self) -> str | None:
        """What tells the study from others in the same root, with which it shares runs and merges; None for none."""
        return self.settings.get("name")

    @property
    def about(self) -> str:
        """What the study asks, in a paragraph of its own."""
        return " ".join(str(self.settings.get("about", "")).split())

    @property
    def root(self) -> str:
        """Where everything is written."""
        return str(self.settings["root"])

    @property
    def seeds(self) -> list[int]:
        """The seeds of training, and of DARE's masks; Snakemake's `--config seeds=[0,1]` gives them as text."""
        return list(dict.fromkeys(map(int, self.settings["seeds"])))

    def folder(self, seed: int) -> str:
        """A seed's folder: the root itself for seed 0, so that one seed and the first of several lie in one place."""
        return f"{self.root}/seed-{seed}" if seed else self.root

    @property
    def folders(self) -> dict[str, int]:
        """The seeds by their folders."""
        return {self.folder(seed): seed for seed in self.seeds}

    def scored(self, folder: str) -> str:
        """Where in a seed's folder its scores are: there itself, or in a folder of the study's name."""
        return f"{folder}/{self.name}" if self.name else folder

    @property
    def tag(self) -> str:
        """What the names of the study's own logs begin with."""
        return f"{self.name}_" if self.name else ""

    @property
    def summary(self) -> str:
        """The folder of what all seeds show together."""
        seeds = len(self.seeds)
        if self.name:
            return f"{self.root}/{self.name}-{seeds}-seed{'s' if seeds > 1 else ''}"
        return f"{self.root}/study" + (f"-{seeds}-seeds" if seeds > 1 else "")

    # Corpora

    @cached_property
    def corpora(self) -> dict[str, list[str]]:
        """By output folder, the records that `prepare.py` leaves when it is through with a corpus."""
        parts = {folder: corpus.get("parts", ["."]) for folder, corpus in self.settings["corpora"].items()}
        return {folder: [str(Path(folder, part, "corpus.json")) for part in parts[folder]] for folder in parts}

    def corpus_command(self, folder: str) -> str:
        """The command of `prepare.py` with its options."""
        return f"{self.settings['corpora'][folder]['command']} --out {shlex.quote(folder)}"

    def before_corpus(self, folder: str) -> list[str]:
        """What must be there first: the corpora that it needs, the backbone that it names, for spoken ones our code."""
        corpus = self.settings["corpora"][folder]
        needed = [record for other in corpus.get("after", []) for record in self.corpora[other]]
        if corpus["command"] == "demo":
            words = (file for end in ("py", "tsv", "txt") for file in Path("corpora/speak").rglob(f"*.{end}"))
            needed += sorted(map(str, words))
        if self.backbone in shlex.split(corpus["command"]):
            needed += self.backbone_files
        return needed

    def records(self, of_manifests: Iterable[str]) -> list[str]:
        """The records of the manifests' corpora."""
        known = [record for records in self.corpora.values() for record in records]
        return sorted({record_of(manifest, known) for manifest in of_manifests})

    # Training

    @property
    def backbone(self) -> str:
        """Folder or Hub id of the model that all runs start from."""
        return str(self.settings["backbone"])

    @property
    def backbone_files(self) -> list[str]:
        """The backbone's weights, where they are files of ours."""
        return sorted(map(str, Path(self.backbone).glob("*.safetensors")))

    @property
    def runs(self) -> Mapping[str, Mapping[str, Any]]:
        """The runs by their name, which is their folder's and, where a run names no recipes, its recipe's."""
        return self.settings["runs"]

    def recipe_files(self, run: str) -> list[Path]:
        """The files that a run's configuration is composed of, in order."""
        return [find_config(name) for name in ("base.yaml", *self._configs(run))]

    def train_flags(self, run: str) -> list[str]:
        """The options of a run, without its seed and folder."""
        configs = [flag("config", name) for name in self._configs(run)]
        own_name = [flag("name", run)] if "config" in self.runs[run] else []  # else the recipe says it
        return configs + own_name + flags(self._training(run))

    def train_manifests(self, run: str) -> list[str]:
        """The manifests that a run reads: it trains on them, splices with their spans, or is guarded against them."""
        data = merged(*map(read_yaml, self.recipe_files(run)), self._training(run))["data"]
        pairs = data.get("pairs") or data["train"]
        trained_on = [path for pair in pairs for path in manifests(data["train"].get(pair, []))]
        spliced_with = (data.get("splice") or {}).get("sources") or []
        return trained_on + spliced_with + (data.get("held_out") or [])

    def _configs(self, run: str) -> list[str]:
        own = self.runs[run].get("config", [f"{run}.yaml"])
        return [*own, *self.settings.get("train", {}).get("config", [])]

    def _training(self, run: str) -> dict[str, Any]:
        shared = {key: value for key, value in self.settings.get("train", {}).items() if key != "config"}
        return merged(shared, self.runs[run].get("train", {}), {"model": {"backbone": self.backbone}})

    # Merging

    @cached_property
    def merges(self) -> dict[str, Merge]:
        """Every row's runs, or every subset of two or more of those that rows share, by folder within a seed's."""
        of, found = self.settings["merge"].get("of", []), {}
        subsets = [chosen for size in range(2, len(of) + 1) for chosen in itertools.combinations(of, size)]
        for row in self.settings["merge"].get("rows", []):
            for runs in [tuple(row["runs"])] if "runs" in row else subsets:
                folder = f"{row.get('folder', 'merges')}/{row['method']}-{'+'.join(runs)}"
                of_runs = "" if "runs" in row else f" {' + '.join(self.runs[run]['name'] for run in runs)}"
                name, options, seeded = row["name"] + of_runs, row.get("options", {}), row.get("seeded", False)
                if folder in found:
                    both = f"{found[folder].name} and {name}"
                    raise UserError(f"merge: {both} are both written to {folder}; name a 'folder'")
                found[folder] = Merge(name, row["group"], folder, row["method"], runs, options, seeded, "runs" in row)
        return found

    def merge_flags(self, merge: Merge, seed: int) -> list[str]:
        """The options of a merge, without models and folder."""
        engine = {"engine": self.settings["merge"].get("engine", "stream")}
        options = engine | dict(merge.options) | ({"seed": seed} if merge.seeded else {})
        return [flag(name, value) for name, value in options.items()]

    # Evaluation and analysis

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The options of `evaluate.py` that do not depend on the seed."""
        given = dict(self.settings["evaluate"])
        configs = [read_yaml(find_config(name, CONFIGS / "evaluate")) for name in given.pop("config", [])]
        options = merged(*configs, given)
        return {key: value for key, value in options.items() if key not in ("models", "out")}

    def rows(self, seed: int) -> list[dict[str, str]]:
        """The table's rows in order, as `evaluate.py` takes models: base, runs, merges, oracles."""
        here = self.folder(seed)
        runs = [
            {"name": run["name"], "group": run["group"], "path": f"{here}/{folder}/model"} | _language(run)
            for folder, run in self.runs.items()
        ]
        merges = [{"name": of.name, "group": of.group, "path": f"{here}/{of.folder}"} for of in self.merges.values()]
        oracles = [row for row in runs if is_oracle(row["group"])]
        trained = [row for row in runs if row not in oracles]
        return [{"name": "base", "group": "Base", "path": self.backbone}, *trained, *merges, *oracles]

    def evaluation_yaml(self, seed: int) -> str:
        """A seed's configuration of `evaluate.py`."""
        options = {"out": self.scored(self.folder(seed))} | self.evaluation | {"models": self.rows(seed)}
        return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)

    @property
    def analyzes(self) -> bool:
        """Whether the study looks into what fine-tuning changed."""
        return "analyze" in self.settings

    @property
    def compared(self) -> tuple[list[str], list[str]]:
        """The rows whose differences from others are asked for, and these others; none where nothing is."""
        compare = self.settings.get("compare", {"to": []})
        check_keys("compare", compare, KEYS["compare"].split(), ["to"])
        rows = compare.get("rows", "all")
        self._check_rows("compare: to", compare["to"])
        self._check_rows("compare: rows", [] if rows == "all" else rows)
        return ([row["name"] for row in self.rows(0)] if rows == "all" else rows), compare["to"]

    @property
    def curves(self) -> dict[str, Curve]:
        """The line figures that are asked for, by name."""
        found = {}
        for name, curve in self.settings.get("curves", {}).items():
            where = f"curves: {name}"
            check_keys(where, curve, KEYS["curves"].split(), ["of", "axis", "rows"])
            check_keys(f"{where}: of", {curve["of"]: 0}, [*AVERAGES, *self.evaluation["test"]])
            self._check_rows(f"{where}: rows", curve["rows"])
            self._check_rows(f"{where}: beside", curve.get("beside", []))
            found[name] = Curve(curve["of"], curve["axis"], dict(curve["rows"]), tuple(curve.get("beside", [])))
        return found

    def _check_rows(self, where: str, names: Iterable[str]) -> None:
        known = [row["name"] for row in self.rows(0)]
        for name in names:
            if name not in known:
                raise UserError(f"{where}: no row is called {name!r}{nearest(str(name), known)}")

    def analysed(self, seed: int) -> list[str]:
        """The fine-tunes whose changes are shown, as NAME=PATH."""
        of = self.settings["analyze"]["of"]
        return [f"{self.runs[run]['name']}={self.folder(seed)}/{run}/model" for run in of]

    @property
    def threshold(self) -> str:
        """The mean absolute change above which a row counts as changed."""
        return str(self.settings["analyze"].get("threshold", 5e-5))

    # The rest

    def threads(self, rule: str) -> int:
        """How many cores a job of a rule uses."""
        return int(self.settings.get("resources", {}).get(rule, {}).get("threads", 1))

    def resources(self, rule: str) -> dict[str, Any]:
        """What else a job of a rule asks of the machine or the cluster."""
        asked = self.settings.get("resources", {}).get(rule, {})
        return {name: amount for name, amount in asked.items() if name != "threads"}

    @property
    def printed(self) -> dict[str, dict[str, float]]:
        """The paper's own figures, as fractions, by row (or `best`) and column."""
        rows = self.settings.get("printed", {}).get("rows", {})
        check_keys("printed: rows", rows, [BEST, *(row["name"] for row in self.rows(self.seeds[0]))])
        for name, figures in rows.items():
            check_keys(f"printed: rows: {name}", figures, [*self.evaluation["test"], SEEN, UNSEEN])
        return rows

    @property
    def printed_source(self) -> str:
        """Where the paper's figures are from."""
        return self.settings.get("printed", {}).get("source", "")

    def as_yaml(self) -> str:
        """The study as a file that runs again."""
        return yaml.safe_dump(dict(self.settings) | {"seeds": self.seeds}, sort_keys=False, allow_unicode=True)

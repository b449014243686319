"""A study's plan: which runs, merges and scores there are, from which files, by which options.

`workflow/Snakefile` takes everything but the commands themselves from here. A study is a file of `configs/study/`;
`docs/study.md` describes what it holds.
"""

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from common.configs import find_config, read_yaml
from common.errors import UserError
from common.files import check_name
from common.options import Command, build
from evaluation.evaluation_options import EvaluationOptions
from scoring.table import AVERAGES, SEEN, SINGLE, UNSEEN, is_oracle, single_languages
from workflow.settings import flag, flags, manifests, merged, record_of
from workflow.study_file import MergeRow, RunPlan, StudyFile, check_names, read_fields

BEST = "best"  # stands for the best row of a column


class Study(StudyFile):
    """A study's file, checked, and what follows from it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Check the file, and that the names in each of its parts exist.

        Args:
            settings: its content, as YAML gives it.

        Raises:
            UserError: naming the place and what was expected.
        """
        if not settings:
            raise UserError("no study is named: add --configfile configs/study/demo.yaml, or another file")
        super().__init__(**read_fields(StudyFile, settings, "the study"))
        self.settings = settings
        self.seeds = list(dict.fromkeys(self.seeds))
        taken = {"study", "logs", "benchmarks", "analysis", "decoded", *self.runs}
        taken |= {Path(folder).parts[0] for folder in self.merges}
        if self.name is not None and (not re.fullmatch(r"[\w-]+", self.name) or self.name in taken):
            raise UserError(
                f"name is {self.name!r}, expected letters, digits, - and _, and no other folder's name: it becomes one"
            )
        for name in (*self.runs, *self.curves):
            check_name(name, "runs and curves")
        rows, tests = self.row_names, list(self.evaluation["test"])
        check_names("compare: to", self.compare.to, rows)
        check_names("compare: rows", self.compared, rows)
        for name, curve in self.curves.items():
            check_names(f"curves: {name}: of", [curve.of], [*AVERAGES, *tests])
            check_names(f"curves: {name}: rows", [*curve.rows, *curve.beside], rows)
        check_names("printed: rows", self.printed.rows, [BEST, *rows])
        for name, figures in self.printed.rows.items():
            check_names(f"printed: rows: {name}", figures, [*tests, SEEN, UNSEEN])

    # Folders

    def folder(self, seed: int) -> str:
        """A seed's folder: the root itself for seed 0, so that a study of one seed can be extended to several."""
        return f"{self.root}/seed-{seed}" if seed else self.root

    @property
    def folders(self) -> dict[str, int]:
        """The seeds by their folders."""
        return {self.folder(seed): seed for seed in self.seeds}

    def scored(self, folder: str) -> str:
        """The folder of a seed's scores: the seed's own, or one of the study's name in it."""
        return f"{folder}/{self.name}" if self.name else folder

    @property
    def label(self) -> str:
        """The name of its file and figures: the study's name, or that of its root."""
        return self.name or Path(self.root).name

    @property
    def tag(self) -> str:
        """The prefix of the study's own logs."""
        return f"{self.name}_" if self.name else ""

    @property
    def summary(self) -> str:
        """The folder of the summary over all seeds."""
        seeds = len(self.seeds)
        if self.name:
            return f"{self.root}/{self.name}-{seeds}-seed{'s' if seeds > 1 else ''}"
        return f"{self.root}/study" + (f"-{seeds}-seeds" if seeds > 1 else "")

    # Corpora

    @cached_property
    def corpus_records(self) -> dict[str, list[str]]:
        """By output folder, the records that `prepare.py` writes when a corpus is complete."""
        return {
            folder: [str(Path(folder, part, "corpus.json")) for part in corpus.parts]
            for folder, corpus in self.corpora.items()
        }

    def corpus_command(self, folder: str) -> str:
        """The command of `prepare.py` with its options."""
        return f"{self.corpora[folder].command} --out {shlex.quote(folder)}"

    def before_corpus(self, folder: str) -> list[str]:
        """The files that a corpus depends on: other corpora, the backbone it names, our code for synthetic speech."""
        corpus = self.corpora[folder]
        needed = [record for other in corpus.after for record in self.corpus_records[other]]
        if corpus.command == "demo":
            words = (file for end in ("py", "tsv", "txt") for file in Path("corpora/speak").rglob(f"*.{end}"))
            needed += sorted(map(str, words))
        if self.backbone in shlex.split(corpus.command):
            needed += self.backbone_files
        return needed

    def records(self, of_manifests: Iterable[str]) -> list[str]:
        """The records of the manifests' corpora."""
        known = [record for records in self.corpus_records.values() for record in records]
        return sorted({record_of(manifest, known) for manifest in of_manifests})

    # Training

    @property
    def backbone_files(self) -> list[str]:
        """The backbone's weights, where they are local files."""
        return sorted(map(str, Path(self.backbone).glob("*.safetensors")))

    def row_name(self, run: str) -> str:
        """A run's row in the table."""
        return self.runs[run].name or run

    def recipe_files(self, run: str) -> list[Path]:
        """The files that a run's configuration is composed of, in order."""
        return [find_config(name) for name in ("base.yaml", *self._configs(run))]

    def train_flags(self, run: str) -> list[str]:
        """The options of a run, without its seed and folder."""
        return [*(flag("config", name) for name in self._configs(run)), flag("name", run), *flags(self._training(run))]

    def train_manifests(self, run: str) -> list[str]:
        """The manifests that a run reads: to train on, to splice from, and held out."""
        data = merged(*map(read_yaml, self.recipe_files(run)), self._training(run))["data"]
        pairs = data.get("pairs") or data["train"]
        trained_on = [path for pair in pairs for path in manifests(data["train"].get(pair, []))]
        spliced_with = (data.get("splice") or {}).get("sources") or []
        return trained_on + spliced_with + (data.get("held_out") or [])

    def _configs(self, run: str) -> list[str]:
        return [*(self.runs[run].config or [f"{run}.yaml"]), *self.train.get("config", [])]

    def _training(self, run: str) -> dict[str, Any]:
        shared = {key: value for key, value in self.train.items() if key != "config"}
        return merged(shared, self.runs[run].train, {"model": {"backbone": self.backbone}})

    # Merging

    @cached_property
    def merges(self) -> dict[str, MergeRow]:
        """The merges by folder within a seed's: of a row's own runs, or of every subset of two or more."""
        of, found = self.merge.of, dict[str, MergeRow]()
        subsets = [chosen for size in range(2, len(of) + 1) for chosen in itertools.combinations(of, size)]
        for row in self.merge.rows:
            for runs in [row.runs] if row.runs else subsets:
                folder = f"{row.folder}/{row.method}-{'+'.join(runs)}"
                name = row.name if row.runs else f"{row.name} {' + '.join(map(self.row_name, runs))}"
                if folder in found:
                    both = f"{found[folder].name} and {name}"
                    raise UserError(f"merge: {both} are both written to {folder}; name a 'folder'")
                found[folder] = replace(row, name=name, folder=folder, runs=list(runs))
        return found

    def merge_flags(self, merge: MergeRow, seed: int) -> list[str]:
        """The options of a merge, without models and folder."""
        options = {"engine": self.merge.engine, **merge.options} | ({"seed": seed} if merge.seeded else {})
        return [flag(name, value) for name, value in options.items()]

    # Evaluation and analysis

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The options of `evaluate.py` that do not depend on the seed."""
        given = dict(self.evaluate)
        names = given.pop("config", [])
        if not isinstance(names, list):
            raise UserError(f"evaluate: config is {names!r}, expected a list of names or paths")
        options = merged(*(read_yaml(find_config(str(name), "evaluate")) for name in names), given)
        options = {key: value for key, value in options.items() if key not in ("models", "out")}
        try:
            build(Command("evaluate.py", "", EvaluationOptions)).parse_object(options, defaults=False)
        except UserError as error:
            raise UserError(f"evaluate: {error}") from None
        if not options.get("test"):
            raise UserError("evaluate: test is missing, expected test manifests by name, or a config that names them")
        return options

    @cached_property
    def averages(self) -> dict[str, list[str]]:
        """The test sets of each average: of seen pairs, unseen pairs and single languages."""
        seen, unseen = (list(self.evaluation.get(which, [])) for which in (SEEN, UNSEEN))
        return {SEEN: seen, UNSEEN: unseen, SINGLE: single_languages(self.evaluation["test"], (*seen, *unseen))}

    def rows(self, seed: int) -> list[dict[str, str]]:
        """The table's rows in order, as `evaluate.py` takes models: base, runs, merges, oracles."""
        here = self.folder(seed)

        def model(name: str, of: RunPlan | MergeRow, path: str) -> dict[str, str]:
            return {"name": name, "group": of.group, "path": path} | ({"language": of.language} if of.language else {})

        runs = [model(self.row_name(run), of, f"{here}/{run}/model") for run, of in self.runs.items()]
        merges = [model(of.name, of, f"{here}/{of.folder}") for of in self.merges.values()]
        oracles = [row for row in runs if is_oracle(row["group"])]
        trained = [row for row in runs if row not in oracles]
        rows = [{"name": "base", "group": "Base", "path": self.backbone}, *trained, *merges, *oracles]
        check_names("tags: rows", self.tags.rows, [row["name"] for row in rows])
        chosen = [row for row in rows if row["name"] in self.tags.rows]
        return rows + [
            row | {"name": f"{row['name']}, tag {tag}", "group": f"{row['group']}, tag {tag}", "language": tag}
            for tag in self.tags.policies
            for row in chosen
        ]

    @property
    def own_tags(self) -> dict[str, str]:
        """The policies of language tags that runs and merges are decoded with in place of the evaluation's, by row."""
        rows = [(self.row_name(run), of.language) for run, of in self.runs.items()]
        rows += [(of.name, of.language) for of in self.merges.values()]
        return {name: language for name, language in rows if language}

    @cached_property
    def row_names(self) -> list[str]:
        """The names of the table's rows."""
        return [row["name"] for row in self.rows(0)]

    def evaluation_yaml(self, seed: int) -> str:
        """A seed's configuration of `evaluate.py`."""
        here = self.folder(seed)
        places = {"out": self.scored(here), "decoded": f"{here}/decoded"}
        options = places | self.evaluation | {"models": self.rows(seed)}
        return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)

    @property
    def compared(self) -> list[str]:
        """The rows whose differences from the rows `compare.to` are tested."""
        return self.row_names if self.compare.rows == "all" else list(self.compare.rows)

    def analyzed_models(self, seed: int) -> list[str]:
        """The models that are analysed, as NAME=PATH."""
        return [f"{self.row_name(run)}={self.folder(seed)}/{run}/model" for run in self.analyze.of]

    # The rest

    def threads(self, rule: str) -> int:
        """How many cores a job of a rule uses."""
        return int(self.resources.get(rule, {}).get("threads", 1))

    def resources_of(self, rule: str) -> dict[str, Any]:
        """What else a job of a rule asks of the machine or the cluster."""
        return {name: amount for name, amount in self.resources.get(rule, {}).items() if name != "threads"}

    def as_yaml(self) -> str:
        """The study as a file that can be run again."""
        return yaml.safe_dump(dict(self.settings) | {"seeds": self.seeds}, sort_keys=False, allow_unicode=True)

"""The documentation's code runs and does what its page says; its tables and versions agree with one another."""

from __future__ import annotations

import configparser
import doctest
import importlib
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from lightning_modules.algorithms.erm import ERM
from merging.methods import method_in
from tests.algorithm_toys import Quadratics, context
from tests.corpus_trees import put, wav
from tests.docs_commands import ROOT, blocks
from tests.test_house import FILES

HOW_TO = ROOT / "docs/howto"
DOCTESTED = [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")]
sys.path.insert(0, str(ROOT / "docs/site"))
import readme_tables  # noqa: E402


@pytest.mark.parametrize("path", DOCTESTED, ids=lambda path: path.stem)
def test_every_docstring_example_runs(path: Path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def written(page: str, folder: Path, names: dict[str, object] | None = None) -> dict[str, object]:
    """What a how-to page's first Python block defines."""
    file = folder / "example.py"
    file.write_text(blocks(HOW_TO / page, "python")[0], encoding="utf-8")
    return runpy.run_path(str(file), names, "example")


def test_the_algorithm_of_the_page(tmp_path: Path):
    """Losses of 1 and 2: the mean is 1.5, the deviation 0.5."""
    deviation = written("new_algorithm.md", tmp_path)["Deviation"]
    losses_P = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert deviation(0.5).objective(None, losses_P).item() == 1.75
    assert deviation(0.0).objective(None, losses_P).item() == 1.5
    recipe = next(yaml.safe_load(body) for body in blocks(HOW_TO / "new_algorithm.md", "yaml"))
    assert recipe["model"]["algorithm"]["class_path"] == "Deviation"
    trained = []
    for algorithm in (deviation(0.0), ERM()):
        model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 2.0]})
        algorithm.step(context(model), model.batch())
        trained.append(model.theta.tolist())
    assert trained[0] == trained[1]  # strength 0 is ERM


def test_the_reader_of_the_page(tmp_path: Path):
    from common.manifest import read_manifest
    from corpora.corpus import prepare
    from corpora.readers.source import SourceFiles

    reader = written("new_corpus.md", tmp_path)["PairsOfFiles"]
    put(tmp_path / "in/kim/a.wav", wav(1.0, 16000, 1))
    put(tmp_path / "in/kim/a.txt", "오늘 Wetter 좋다\n".encode())
    put(tmp_path / "in/lee/b.wav", wav(1.5, 16000, 2))
    prepare(
        reader(pair="ko-de"), SourceFiles(tmp_path / "in"), tmp_path / "out", train_utterances=None, seed=0, held_out=[]
    )
    (one,) = read_manifest(tmp_path / "out/train.jsonl")
    assert (one.id, one.text, one.pair, one.speaker, one.duration) == ("kim-a", "오늘 Wetter 좋다", "ko-de", "kim", 1.0)
    assert "lee/b.txt: no transcript" in (tmp_path / "out/corpus.json").read_text(encoding="utf-8")


def test_the_merge_method_of_the_page(tmp_path: Path):
    """Task vectors (1, -4) and (3, 2): largest (3, -4), mean (2, -1), half way between (2.5, -2.5)."""
    module = ModuleType("merging.methods.boldest")
    vars(module)["boldest"] = written("new_merge_method.md", tmp_path)["boldest"]
    boldest = method_in(module)
    models = [torch.tensor([[1.0, -4.0]]), torch.tensor([[3.0, 2.0]])]
    assert boldest.merge(torch.zeros(1, 2), list(models)).tolist() == [[2.5, -2.5]]
    assert boldest.merge(torch.zeros(1, 2), list(models), trust=1.0).tolist() == [[3.0, -4.0]]
    assert boldest.has_step and boldest.source and boldest.formula
    trust = boldest.parameters["trust"]
    assert trust.range == "a number in [0, 1]"
    assert trust.help == "share of the largest change of each entry; the rest is the mean"


TABLE = """\
| Group | Model | KO-EN | JA-EN | DE-EN | Seen avg | KO-JA | KO-DE | Unseen avg | KO |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
| Base | base | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
| Merged | ties ko-en + ja-en | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
|  | ties ko-en + ja-en + de-en | **9** | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
|  | average ko-en + de-en | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
|  | average ko-en + ja-en + de-en | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
"""
SHORT = """\
| Group | Model | KO-EN | JA-EN | DE-EN | Seen avg | KO-JA | KO-DE | Unseen avg |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| Base | base | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
| Merged | ties, all three | **9** | 2 | 3 | 4 | 5 | 6 | 7 |
|  | average, all three | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
"""


def test_the_short_table_leaves_out_pairwise_merges_and_single_languages():
    assert readme_tables.full(f"A title\n\n{TABLE}\nmacro\n\n| other |\n") == TABLE
    assert readme_tables.short(TABLE) == SHORT


def test_readme_and_the_demo_s_page_show_the_same_figures(tmp_path: Path):
    whole, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/demo.md", "README.md"))
    assert readme_tables.short(readme_tables.full(whole)) in readme
    assert len(readme_tables.full(whole).splitlines()) > 30
    copy = tmp_path / "README.md"
    copy.write_text(readme, encoding="utf-8")
    readme_tables.put(copy, "\nNEW\n")
    assert "\nNEW\n" in copy.read_text(encoding="utf-8")
    assert copy.read_text(encoding="utf-8").split(readme_tables.BEGIN)[0] == readme.split(readme_tables.BEGIN)[0]
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert readme_tables.full(readme_tables.section(results, "demo")) == readme_tables.full(whole)
    short = readme_tables.short(readme_tables.full(readme_tables.section(results, "whisper_base")))
    assert f"[start:whisper] -->\n\n{short}\n<!--" in readme
    readme_tables.put(copy, "\nWHISPER\n", "whisper")
    assert "[start:whisper] -->\n\nWHISPER\n<!--" in copy.read_text(encoding="utf-8")


def test_the_citation_is_of_this_version():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == setup["metadata"]["version"]
    assert citation["license"] == setup["metadata"]["license"]
    authors = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert authors == ["Paik", "Shin", "Lee"]


def test_every_extra_is_named_among_the_third_parties():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    told = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    core = [line for line in setup["options"]["install_requires"].splitlines() if line and not line.startswith("#")]
    names = [re.match(r"[\w-]+", line.strip())[0] for line in core]
    assert [name for name in names if name not in told] == []
    assert [extra for extra in setup["options.extras_require"] if f"| `{extra}` |" not in told] == []


def test_an_installation_brings_dependencies_and_no_packages():
    """The project is used from its checkout: nothing of it may become importable elsewhere."""
    from setuptools import Distribution

    found = Distribution({"src_root": str(ROOT)})
    found.parse_config_files([str(ROOT / "pyproject.toml"), str(ROOT / "setup.cfg")])
    assert not found.packages and not found.py_modules
    assert "torch<2.15,>=2.11" in found.install_requires and "demo" in found.extras_require

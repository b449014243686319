"""What a study consists of, and that what it says of the paper's setting agrees with the recipes that say it, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.configs import find_config, read_yaml
from common.errors import UserError
from workflow.plan import Study
from workflow.settings import flag, merged, record_of

CONFIGS = Path(__file__).parent.parent / "configs"


def study(file: str, /, **changes: Any) -> Study:
    return Study(merged(read_yaml(CONFIGS / f"study/{file}.yaml"), changes))


def test_the_demos_rows_stand_in_the_order_of_the_table():
    rows = study("demo").rows(0)
    names = [row["name"] for row in rows]
    assert names[:9] == [
        "base",
        "ko-en",
        "ja-en",
        "de-en",
        "erm",
        "fish",
        "fishr",
        "gga-l",
        "task arithmetic ko-en + ja-en",
    ]
    assert names[11:13] == ["task arithmetic ko-en + ja-en + de-en", "ties ko-en + ja-en"]
    assert names[-2:] == ["ko-ja", "ko-de"]
    assert len(names) == len(set(names)) == 1 + 3 + 4 + 3 * 4 + 2 * 4 + 2
    paths = {row["name"]: row["path"] for row in rows}
    assert paths["base"] == "models/demo-backbone"
    assert paths["gga-l"] == "outputs/demo/gga-l/model"
    assert paths["ties ko-en + de-en"] == "outputs/demo/merges/ties-ko-en+de-en"
    assert paths["dare 1/n ja-en + de-en"] == "outputs/demo/merges_mean/dare_linear-ja-en+de-en"


def test_a_further_seed_has_a_folder_of_its_own():
    several = study("demo", seeds=[0, 2])
    assert several.folders == {"outputs/demo": 0, "outputs/demo/seed-2": 2}
    assert several.summary == "outputs/demo/study-2-seeds"
    assert several.rows(2)[1]["path"] == "outputs/demo/seed-2/ko-en/model"
    assert "--seed 2" in several.merge_flags(several.merges["merges/dare_linear-ko-en+ja-en"], 2)
    assert study("demo", seeds=["0", "1"]).seeds == [0, 1]  # as Snakemake's command line gives them
    assert study("demo").summary == "outputs/demo/study"


def test_a_run_waits_for_the_corpora_that_it_reads():
    paper = study("paper")
    assert paper.records(paper.train_manifests("ja-en")) == ["data/cs_fleurs/corpus.json", "data/jecs/corpus.json"]
    assert paper.before_corpus("data/unicom") == ["data/cs_fleurs/corpus.json"]
    demo = study("demo")
    assert demo.records(demo.train_manifests("ko-ja")) == ["data/demo/ko-ja/corpus.json"]
    assert record_of("data/demo/ko-en/test.jsonl", ["data/demo/ko/corpus.json"]) == "data/demo/ko-en/test.jsonl"


def test_studies_that_share_a_root_train_what_is_called_alike_alike():
    several, ablations = study("splicing"), study("splicing-ablations")
    shared = several.runs.keys() & ablations.runs.keys()
    assert several.root == ablations.root and shared == {"erm", "listed", "oracle"}
    for run in shared:
        assert several.train_flags(run) == ablations.train_flags(run)
        assert several.runs[run] == ablations.runs[run]
    whole, beyond = study("whisper_base"), study("beyond")
    assert beyond.root == whole.root
    assert beyond.runs.keys() - whole.runs.keys() == {"splice-two-tag", "parallel", "mixed", "crosspair"}
    for run in beyond.runs.keys() & whole.runs.keys():
        assert beyond.train_flags(run) == whole.train_flags(run)
    seeds = study("beyond-seeds")
    assert seeds.root == beyond.root and seeds.seeds == [0, 1, 2]
    for run in seeds.runs:
        assert seeds.train_flags(run) == beyond.train_flags(run)
        assert seeds.runs[run] == beyond.runs[run]
    for other in (study("whisper_base_tags"), study("whisper_base_merges")):
        assert other.root == whole.root
        for run in other.runs:
            assert other.train_flags(run) == (whole if run in whole.runs else beyond).train_flags(run)


def test_the_study_on_whisper_base_has_the_papers_rows_and_budgets():
    whole = study("whisper_base")
    assert len(whole.rows(0)) == 1 + 3 + 4 + 2 + 5 * 4 + 4
    assert [row["name"] for row in whole.rows(0)[-4:]] == ["oracle", "oracle, two tags", "ko-ja", "ko-de"]
    for run, steps, utterances in ("ko-en", 73, 8), ("ko-ja", 73, 8), ("fishr", 195, 3), ("oracle", 195, 3):
        options = merged(*map(read_yaml, whole.recipe_files(run)), whole.runs[run].train)
        assert (options["trainer"]["max_steps"], options["data"]["utterances_per_pair"]) == (steps, utterances)
    tested = set(whole.evaluation["test"].values())
    for run in whole.runs:
        trained_on = set(whole.train_manifests(run))
        unseen = {"speech/ko-ja/train.jsonl", "speech/ko-de/train.jsonl"} & trained_on
        assert not unseen or whole.runs[run].group.startswith("Oracle")
        held_out = merged(*map(read_yaml, whole.recipe_files(run)))["data"]["held_out"]
        assert set(held_out) == {path for path in tested if "-" in path.split("/")[1]}


def test_a_recipe_is_chosen_without_test_sets_and_without_unseen_pairs():
    """Neither training nor the development study reads a test set or a sentence of ko-ja or ko-de, but for oracles."""
    chosen = study("beyond", **read_yaml(CONFIGS / "study/beyond-dev.yaml"))
    spliced = chosen.corpora["data/spliced-dev"]
    files = {word for word in spliced.command.split() if word.endswith(".jsonl") and word.startswith("speech")}
    for run, plan in chosen.runs.items():
        if not plan.group.startswith("Oracle"):
            held_out = merged(*map(read_yaml, chosen.recipe_files(run)))["data"]["held_out"]
            files |= {path for path in chosen.train_manifests(run) if path not in held_out}
    tested = set(chosen.evaluation["test"].values())
    made = {f"data/spliced-dev/{pair}/spliced.jsonl" for pair in ("ko-ja", "ko-de")}
    assert made <= tested and len(tested) == 9 and len(files) == 9
    for path in files | tested - made:
        corpus, split = re.fullmatch(r"speech/([a-z-]+)/(train|dev)\.jsonl", path).groups()
        assert corpus in ("ko-en", "ja-en", "de-en", "ko", "ja", "de", "en")
        assert split == "dev" or path not in tested


def test_rows_may_be_decoded_again_with_other_language_tags():
    rows = study("whisper_base_tags").rows(0)
    assert len(rows) == 1 + 8 + 1 + 5 * 3
    assert rows[-1] == {
        "name": "oracle, tag two_tag",
        "group": "Oracle (trained on the unseen pairs), tag two_tag",
        "path": "outputs/whisper_base/oracle/model",
        "language": "two_tag",
    }
    with pytest.raises(UserError, match="tags: rows: no 'joint'"):
        study("demo", tags={"rows": ["joint"], "policies": ["auto"]})


def test_a_run_may_be_made_of_several_recipes_and_options_of_its_own():
    own = {"config": ["fishr.yaml", "splice.yaml"], "train": {"budget": 8, "data": {"splice": {"share": 0.25}}}}
    several = study("demo", runs={"spliced": {"name": "spliced", "group": "g", **own}})
    assert several.train_flags("spliced") == [
        "--config fishr.yaml",
        "--config splice.yaml",
        "--config demo.yaml",
        "--name spliced",
        "--budget 8",
        """--data.splice '{"share": 0.25}'""",
        "--model.backbone models/demo-backbone",
    ]
    names = ["base.yaml", "fishr.yaml", "splice.yaml", "demo.yaml"]
    assert [path.name for path in several.recipe_files("spliced")] == names
    assert several.rows(1)[8] == {"name": "spliced", "group": "g", "path": "outputs/demo/seed-1/spliced/model"}
    assert study("demo").train_flags("erm")[:2] == ["--config erm.yaml", "--config demo.yaml"]


def test_studies_of_one_root_share_runs_and_keep_their_scores_apart():
    demo, named = study("demo", seeds=[0, 2]), study("demo", name="other", seeds=[0, 2])
    assert named.folders == demo.folders
    assert named.train_flags("erm") == demo.train_flags("erm")
    assert named.rows(2) == demo.rows(2)
    assert yaml.safe_load(named.evaluation_yaml(0))["out"] == "outputs/demo/other"
    assert yaml.safe_load(named.evaluation_yaml(2))["out"] == "outputs/demo/seed-2/other"
    assert yaml.safe_load(demo.evaluation_yaml(2))["out"] == "outputs/demo/seed-2"
    assert yaml.safe_load(named.evaluation_yaml(2))["decoded"] == "outputs/demo/seed-2/decoded"
    assert named.summary == "outputs/demo/other-2-seeds"
    assert study("demo", name="other").summary == "outputs/demo/other-1-seed"


@pytest.mark.parametrize("name", ["erm", "merges", "a/b", ""])
def test_a_studys_name_is_a_folders_of_its_own(name: str):
    with pytest.raises(UserError, match=f"name is '{name}', expected letters, digits, - and _, and no other folder's"):
        study("demo", name=name)


def test_a_run_may_be_decoded_with_tags_of_its_own():
    tagged = study("demo", runs={"erm": {"language": "two_tag"}})
    models = {row["name"]: row for row in yaml.safe_load(tagged.evaluation_yaml(0))["models"]}
    assert models["erm"]["language"] == "two_tag" and "language" not in models["fish"]
    assert tagged.train_flags("erm") == study("demo").train_flags("erm")  # how it is trained is its recipes' matter
    half = {"name": "half", "group": "Merged", "method": "wise_ft", "runs": ["erm"], "language": "two_tag"}
    merged = {row["name"]: row for row in study("demo", merge={"rows": [half]}).rows(0)}
    assert merged["half"]["language"] == "two_tag" and "language" not in merged["erm"]


def test_a_merge_may_name_what_it_merges():
    rows = [
        {"name": "average", "group": "Merged", "method": "linear", "runs": ["ja-en", "erm"]},
        {"name": "wise-ft 0.5", "group": "Merged", "method": "wise_ft", "runs": ["erm"], "options": {"alpha": 0.5}},
        {"name": "wise-ft 0.7", "group": "Merged", "method": "wise_ft", "runs": ["erm"], "folder": "merges_0.7"},
    ]
    settings = read_yaml(CONFIGS / "study/demo.yaml")
    settings["merge"] = {"rows": rows}
    merges = Study(settings).merges
    assert {folder: (merge.name, merge.runs) for folder, merge in merges.items()} == {
        "merges/linear-ja-en+erm": ("average", ["ja-en", "erm"]),
        "merges/wise_ft-erm": ("wise-ft 0.5", ["erm"]),
        "merges_0.7/wise_ft-erm": ("wise-ft 0.7", ["erm"]),
    }
    assert "--alpha 0.5" in Study(settings).merge_flags(merges["merges/wise_ft-erm"], 0)
    settings["merge"] = {"of": ["ko-en", "ja-en"], "rows": [rows[0], {"name": "ties", "group": "g", "method": "ties"}]}
    assert [merge.name for merge in Study(settings).merges.values()] == ["average", "ties ko-en + ja-en"]
    settings["merge"] = {"rows": [{"name": "ties", "group": "g", "method": "ties"}]}
    with pytest.raises(UserError, match="merge: rows: ties: name its 'runs', or in merge: of: those of all rows"):
        Study(settings)


def test_a_run_waits_for_the_manifests_that_it_splices_with():
    train = {"data": {"splice": {"sources": ["data/x/ko/train.jsonl"]}}}
    spliced = study("demo", runs={"ko-en": {"config": ["ko-en.yaml", "splice.yaml"], "train": train}})
    assert spliced.train_manifests("ko-en") == ["data/demo/ko-en/train.jsonl", "data/x/ko/train.jsonl"]


@pytest.mark.parametrize("run", ["ko-en", "ja-en", "de-en", "erm", "fish", "fishr", "gga-l"])
def test_the_papers_setting_is_stated_alike_in_the_study_and_in_the_recipes(run: str):
    ours_alone = {"precision", "devices", "held_out"}
    recipe = merged(read_yaml(CONFIGS / "base.yaml"), read_yaml(find_config(f"{run}.yaml")))
    flags = study("paper").train_flags(run)
    assert flags[:2] == [f"--config {run}.yaml", f"--name {run}"]
    for group in ("model", "data", "trainer"):
        for name, value in recipe[group].items():
            stated = [text for text in flags if text.startswith(f"--{group}.{name} ")]
            assert not stated or name in ours_alone or stated == [flag(f"{group}.{name}", value)]
    named = {re.match(r"--\w+\.(\w+) ", text)[1] for text in flags[2:]}
    assert named - ours_alone <= {name for group in ("model", "data", "trainer") for name in recipe[group]}
    assert {"learning_rate", "betas", "warmup_fraction", "max_steps", "utterances_per_pair"} <= named


def test_the_papers_merges_and_test_sets_are_stated_alike_in_study_and_configs():
    paper = study("paper")
    for merge in paper.merges.values():
        config = read_yaml(CONFIGS / f"merge/{merge.method}.yaml")
        at_one = {name: value for name, value in merge.options.items() if value != "1/n"}
        assert at_one.items() <= config.items()
        assert {name for name, value in merge.options.items() if value == "1/n"} <= {"weight"}
    for name, value in read_yaml(CONFIGS / "evaluate/paper.yaml").items():
        assert name == "out" or paper.evaluation[name] == value
    assert float(paper.analyze.threshold) == read_yaml(CONFIGS / "analyze/paper.yaml")["threshold"]


def test_demo_and_paper_differ_in_data_backbone_and_budget_alone():
    demo, paper = study("demo"), study("paper")
    methods = [(merge.folder, merge.method) for merge in demo.merges.values()]
    assert methods == [(merge.folder, merge.method) for merge in paper.merges.values()]
    assert [run for run in demo.runs if not run.startswith("ko-") or run == "ko-en"] == list(paper.runs)
    assert [paper.runs[run].group for run in paper.runs] == [demo.runs[run].group for run in paper.runs]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, r"the study: no 'sedes', did you mean 'seeds'\?"),
        ({"seeds": 3}, "seeds is 3, expected a list of a whole number"),
        ({"merge": {"of": ["ko-en", "jaen"]}}, r"merge: of: no 'jaen', did you mean 'ja-en'\?"),
        ({"runs": {"erm": {"gruop": "x"}}}, r"runs: erm: no 'gruop', did you mean 'group'\?"),
        (
            {"runs": {"erm": {"config": "fishr.yaml"}}},
            r"runs: erm: config is 'fishr.yaml', expected a list of text",
        ),
        ({"merge": {"rows": [{"name": "x", "method": "ties"}]}}, r"merge: rows: 'group' is missing"),
        (
            {"merge": {"rows": [{"name": "x", "group": "g", "method": "ties", "runs": ["emr"]}]}},
            r"merge: rows: x: runs: no 'emr', did you mean 'erm'\?",
        ),
        (
            {"merge": {"rows": [{"name": "x", "group": "g", "method": "ties", "runs": []}]}},
            r"merge: rows: x: runs is \[\], expected a list of runs to merge",
        ),
        ({"seeds": []}, r"seeds is \[\], expected a list of whole numbers such as \[0, 1, 2\]"),
        ({"seeds": [0, -1]}, r"seeds holds -1, expected a whole number in \[0, 4294967295\]"),
        ({"seeds": [2**32]}, "seeds holds 4294967296"),
        (
            {"merge": {"rows": [{"name": "x", "group": "g", "method": "ties", "folder": "../../up"}]}},
            r"merge: rows: x: folder: '\.\.' cannot name a file or folder",
        ),
        (
            {"merge": {"rows": [{"name": "x", "group": "g", "method": "ties", "folder": ""}]}},
            "merge: rows: x: folder: '' cannot name",
        ),
        ({"seeds": [True]}, "seeds is True, expected a whole number"),
        ({"runs": {"erm": {"train": []}}}, r"runs: erm: train is \[\], expected a mapping of text to any value"),
        ({"analyze": {"of": ["erm"], "threshold": []}}, r"analyze: threshold is \[\], expected text"),
        ({"corpora": {"data/x": {"parts": []}}}, r"corpora: data/x: 'command' is missing"),
        ({"evaluate": {"config": []}}, "evaluate: test is missing, expected test manifests by name"),
        ({"evaluate": {"config": "demo.yaml"}}, "evaluate: config is 'demo.yaml', expected a list"),
        ({"evaluate": {"test": ["a"]}}, r"evaluate: test is \['a'\], expected a mapping of text to text"),
        ({"evaluate": {"test": {"a": "b"}, "seen": 5}}, "evaluate: seen is 5, expected a list of text"),
        ({"evaluate": {"test": {"a": "b"}, "beems": 2}}, "evaluate: no option 'beems', did you mean 'beams'"),
    ],
)
def test_a_mistake_is_answered_where_it_is(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        study("demo", **changes)


def test_mistakes_between_parts_are_answered_too():
    row = {"name": "ties", "group": "g", "method": "ties"}
    with pytest.raises(UserError, match="are both written to merges/ties-ko-en"):
        _ = study("demo", merge={"rows": [row, row]}).merges
    with pytest.raises(
        UserError, match=r"printed: rows: no 'tise ko-en \+ ja-en', did you mean 'ties ko-en \+ ja-en'\?"
    ):
        _ = study("demo", printed={"rows": {"tise ko-en + ja-en": {}}}).printed
    with pytest.raises(UserError, match=r"printed: rows: base: no 'ko-jp', did you mean 'ko-ja'\?"):
        _ = study("demo", printed={"rows": {"base": {"ko-jp": 0.4}}}).printed
    with pytest.raises(UserError, match="no study is named: add --configfile configs/study/demo.yaml"):
        Study({})


def test_values_reach_the_command_line_as_they_are():
    assert flag("weight", "1/n") == "--weight 1/n"
    assert flag("model.betas", [0.9, 0.999]) == "--model.betas '[0.9, 0.999]'"
    assert flag("data.train", {"ko-en": "a b"}) == """--data.train '{"ko-en": "a b"}'"""
    assert flag("config", "it's") == "--config 'it'\"'\"'s'"

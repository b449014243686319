"""A small world in which the documentation's commands run: corpora of noise, tiny models, finished runs."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile
import yaml

from common.manifest import Span, Utterance, write_manifest
from tests.corpus_trees import TREES
from tests.docs_commands import ROOT, Command

# Said in turn, by language: a pair's sentences are its languages' parts, timed.
PARTS = {
    "ko": ["새", "책을 읽어요.", "커피를"],
    "ja": ["私は", "会議に", "行きます。"],
    "de": ["Ich habe", "den Bericht", "gelesen."],
    "en": ["the meeting", "a project", "coffee please"],
}
PAIRS = ("ko-en", "ja-en", "de-en", "ko-ja", "ko-de", "ko", "ja", "de", "en")
RECIPES = ("ko-en", "ja-en", "de-en", "ko-ja", "ko-de", "erm", "fish", "fishr", "gga-l", "splice", "ko-de-mine")
SPAN_S, EDGE_S = 0.35, 0.1
# What stands on a page for a place of the reader's.
TREES_OF = {"DELIVERY": "aihub", "OUTPUT": "unicom", "RECORDINGS": "folder", "FLEURS": "fleurs"}
HUB = {"cs_fleurs": "cs_fleurs", "hike": "hike", "ko_ja": "ko_ja", "ko_de_script": "hike"}


def build(world: Path) -> None:
    """Writes everything that the pages take for granted."""
    for name in ("configs", "workflow"):
        (world / name).symlink_to(ROOT / name)
    _corpora(world)
    _models(world)
    _sources(world)
    (world / "refs.txt").write_text("이번 project는\n내일 meeting이\n", encoding="utf-8")
    (world / "hyps.txt").write_text("이번 projekt는\n내일 meeting\n", encoding="utf-8")
    test = {"ko-en": "data/demo/ko-en/test.jsonl"}
    models = [{"name": "base", "path": "models/demo-backbone"}, {"name": "ko-en", "path": "outputs/demo/ko-en/model"}]
    for out, given, words in (
        ("demo", models, []),
        ("matrix", models[:1], []),
        ("two_tag", models[:1], ["--language", "two_tag"]),
    ):
        config = {"out": f"outputs/{out}", "test": test, "models": given}
        file = world / "outputs" / out / "evaluate.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(config))
        code, said = run_python(["evaluate.py", "--config", f"outputs/{out}/evaluate.yaml", *words], world)
        assert code == 0, said
    shutil.copy(world / "outputs/matrix/hypotheses.jsonl", world)
    code, said = run_python(["merge.py", "ties", "--subsets", "all"], world)
    assert code == 0, said


def _corpora(world: Path) -> None:
    roots = ("data/demo", "data/spoken", "speech")
    places = {
        pair: [f"{root}/{pair}/{split}" for root in roots for split in ("train", "dev", "test")] for pair in PAIRS
    }
    places["ko-en"] += ["data/aihub/train", "data/aihub/dev", "data/cs_fleurs/ko-en/test", "data/mine_other/test"]
    places["ja-en"] += ["data/jecs/train", "data/cs_fleurs/ja-en/test"]
    places["de-en"] += ["data/unicom/train", "data/cs_fleurs/de-en/test"]
    places["ko-ja"] += ["data/ko_ja/test"]
    places["ko-de"] += ["data/ko_de/test", "data/mine/train", "data/mine/test", "MANIFEST"]
    places["ko"] += ["data/korean/train"]
    places["ja"] += ["data/japanese/train"]
    places["de"] += ["data/german/train"]
    for pair, names in places.items():
        for name in names:
            _corpus(world / name, pair, seed=sum(map(ord, name)))


def _corpus(stem: Path, pair: str, seed: int, count: int = 4) -> None:
    noise, languages, utterances = np.random.default_rng(seed), pair.split("-"), []
    audio = stem.with_name(f"{stem.name}-audio")
    audio.mkdir(parents=True)
    for number in range(count):
        said = [languages[i % len(languages)] for i in range(3)]
        spans = tuple(
            Span(language, EDGE_S + SPAN_S * i, EDGE_S + SPAN_S * (i + 1), PARTS[language][(number + i) % 3] + " ")
            for i, language in enumerate(said)
        )
        duration = EDGE_S * 2 + SPAN_S * 3
        path = audio / f"{number}.wav"
        soundfile.write(path, 0.1 * noise.standard_normal(round(duration * 16_000)), 16_000)
        text = "".join(span.text for span in spans).strip()
        identity = f"{stem.parent.name}-{stem.name}-{number}"
        utterances.append(
            Utterance(identity, path, duration, text, pair, said[0], spans=spans, licence="CC0-1.0", source="noise")
        )
    write_manifest(stem if stem.name == "MANIFEST" else stem.with_suffix(".jsonl"), utterances)


def _models(world: Path) -> None:
    import torch
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    from backbone.miniature import random_model, train_tokenizer
    from backbone.model_folder.write import write_model_folder

    torch.manual_seed(0)
    tokenizer = train_tokenizer([part for parts in PARTS.values() for part in parts], vocabulary=300)
    base = world / "openai/whisper-medium"
    for folder, seconds in ((base, 5), (world / "openai/whisper-base", 8)):
        processor = WhisperProcessor(WhisperFeatureExtractor(chunk_length=seconds), tokenizer)
        write_model_folder(folder, random_model(tokenizer, window_s=seconds, width=16), processor)
    for run in ("erm", "crosspair"):
        shutil.copytree(world / "openai/whisper-base", world / f"outputs/whisper_base/{run}/model")
        (world / f"outputs/whisper_base/{run}/config.yaml").write_text("model: {}\ntrainer: {}\n")
    tunes = [f"outputs/{root}{recipe}/model" for recipe in RECIPES for root in ("", "demo/")]
    for seed, name in enumerate(["models/demo-backbone", "B0", "A", "B", *tunes]):
        shutil.copytree(base, world / name)
        if name.endswith("/model"):  # a run's, which may be trained again
            (world / name).with_name("config.yaml").write_text("model: {}\ntrainer: {}\n")
        if seed > 1:
            file, noise = world / name / "model.safetensors", np.random.default_rng(seed)
            weights = safetensors.numpy.load_file(file)
            moved = {
                key: value + 0.01 * noise.standard_normal(value.shape, np.float32) for key, value in weights.items()
            }
            safetensors.numpy.save_file(moved, file, metadata={"format": "pt"})


def _sources(world: Path) -> None:
    for folder, corpus in {**TREES_OF, **{f"hub/{name}": tree for name, tree in HUB.items()}}.items():
        TREES[corpus].write(world / folder, lambda data: data)
    TREES["jecs"].write(world / "delivered", lambda data: data)
    shutil.make_archive(str(world / "jecs_ver1"), "zip", world / "delivered")
    TREES["nemo"].write(world, lambda data: data)
    (world / "recordings").mkdir()
    for name in ("talk.mp3", "clip.wav", "recordings/a.flac"):
        soundfile.write(world / name, 0.1 * np.random.default_rng(0).standard_normal(24_000), 16_000)
    (world / "dev_manifest.json").rename(world / "train_manifest.json")
    nemo = {"audio_filepath": str(world / "clip.wav"), "duration": 1.5, "text": "새 책을 읽어요."}
    (world / "korean_train.json").write_text(json.dumps(nemo, ensure_ascii=False) + "\n", encoding="utf-8")


def run(command: Command, world: Path) -> tuple[int, str]:
    """Runs a command in the world, as it stands but for its length and for corpora of the hub; returns what it said."""
    program, *words = command.words
    words = [file for word in words for file in (_matching(word, world) or [word])]
    if program == "python" and words[0] == "train.py" and "--help" not in words:
        words += ["--budget", "0.03", "--data.workers", "0"]
        words += ["--model.algorithm.init_args.trials", "2"] * ("gga.yaml" in words)
    if words[0] == "prepare.py":
        words = ["DELIVERY" if word.startswith("/corpora/aihub") else word for word in words]
        if words[1] in HUB and "--source" not in words:
            words += ["--source", f"hub/{words[1]}"]
        if words[1] == "align":
            words += ["--least-score", "0"]  # the tiny model hears nothing
        _make_room(world / (words[words.index("--out") + 1] if "--out" in words else f"data/{words[1]}"))
    if program == "python" and words[0] != "-c":
        code, said = run_python(words, world)
        return (0 if code == 1 and words[:2] == ["prepare.py", "check"] else code), said  # it found fault with noise
    folder = Path(sys.executable).parent
    call = [str(folder / program), *words]
    environment = os.environ | command.environment | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(call, cwd=world, env=environment, capture_output=True, text=True)
    return found.returncode, found.stdout + found.stderr


def _make_room(folder: Path) -> None:
    """Remove what stands for manifests that a command is about to write: it writes over none but its own."""
    for manifest in folder.rglob("*.jsonl"):
        if not any((place / "corpus.json").exists() for place in (folder, manifest.parent)):
            manifest.unlink()


def _matching(word: str, world: Path) -> list[str]:
    """The files that a shell would put in the place of a word with a star."""
    return sorted(path.relative_to(world).as_posix() for path in world.glob(word)) if "*" in word else []


def run_python(words: list[str], world: Path) -> tuple[int, str]:
    """Runs a script or module in this process, which has imported what is slow to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        patch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
        script = ROOT / words[0] if (ROOT / words[0]).is_file() else world / words[0]
        patch.setattr(sys, "path", [str(script.parent), str(ROOT), *sys.path])
        try:
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            return (end.code if isinstance(end.code, int) else int(end.code is not None)), str(end.code)
    return 0, ""

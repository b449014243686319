"""Scores models on test sets by the mixed error rate.

python evaluate.py outputs/erm/model --config paper.yaml
python evaluate.py --config demo.yaml
python evaluate.py base=openai/whisper-medium mine=outputs/erm/model --config paper.yaml --language two_tag
python evaluate.py --compare outputs/evaluation/base outputs/evaluation/mine
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.configs import CONFIGS, read_configs
from common.errors import UserError, run_script

OPTIONS = (
    "models",
    "test",
    "seen",
    "unseen",
    "baseline",
    "profile",
    "language",
    "beams",
    "backend",
    "batch_size",
    "device",
    "devices",
    "out",
)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="model folder or Hub id, also as NAME=PATH")
    parser.add_argument(
        "--config", action="append", default=[], help="a file or a name in configs/evaluate/; repeatable"
    )
    parser.add_argument("--out", type=Path, help="folder for scores and report (default outputs/evaluation)")
    parser.add_argument("--profile", help="how transcripts are cut: cjk (default), hike, wer, cer")
    parser.add_argument("--language", help="language tag: matrix (default), embedded, auto, two_tag, or a code")
    parser.add_argument("--beams", type=int, help="hypotheses kept side by side; 1 is greedy (default)")
    parser.add_argument("--backend", help="transformers (default), or faster-whisper: the model's conversion")
    parser.add_argument("--baseline", metavar="NAME", help="model whose differences from the others are tested")
    parser.add_argument("--batch-size", type=int, help="utterances decoded side by side (default 32)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--devices", type=int, metavar="N", help="divide the utterances over so many GPUs (default 1)")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("RUN_A", "RUN_B"),
        help="two evaluations' folders, or a model of one as FOLDER/NAME: paired differences, and what changed most",
    )
    return parser.parse_args()


def main() -> None:
    """Reads the configuration, evaluates."""
    arguments = parse()
    if arguments.compare:
        from scoring.compare import compare_runs

        return compare_runs(*arguments.compare, profile=arguments.profile)
    options = {"out": "outputs/evaluation"} | read_configs(arguments.config, CONFIGS / "evaluate", OPTIONS)
    given = {name: value for name, value in vars(arguments).items() if name != "config" and value not in (None, [])}
    if "models" in given:
        options.pop("baseline", None)  # it names one of the configuration's models
    options |= given
    if not options.get("models"):
        raise UserError("no model named: give model folders, or a --config that lists models")
    if not options.get("test"):
        raise UserError("no test set named: give a --config with test manifests, e.g. --config demo.yaml")
    missing = [path for path in options["test"].values() if not Path(path).is_file()]
    if missing:
        raise UserError("these test manifests are missing: " + ", ".join(missing) + "; see python prepare.py --help")

    from lightning_modules.evaluation import evaluate, evaluation

    evaluate(evaluation(options))


if __name__ == "__main__":
    run_script(main)

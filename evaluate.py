"""Scores models on test sets by the mixed error rate.

python evaluate.py outputs/erm/model --config paper.yaml
python evaluate.py outputs/demo/erm/model --config demo.yaml
python evaluate.py base=openai/whisper-medium mine=outputs/erm/model --config paper.yaml --language two_tag
python evaluate.py --compare outputs/evaluation/base outputs/evaluation/mine
python evaluate.py transcribe outputs/erm/model talk.mp3     (see: python evaluate.py transcribe --help)
"""

from __future__ import annotations

import argparse
import sys

from common.errors import UserError, run_script
from common.options import Help, finish


def parse() -> argparse.Namespace:
    """The command line."""
    text, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=text, epilog=f"examples:\n{examples}", formatter_class=Help)
    scored = parser.add_argument_group("what is scored")
    scored.add_argument("models", nargs="*", metavar="MODEL", help="model folder or Hub id, also as NAME=PATH")
    scored.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        help="a file or a name in configs/evaluate/, which names the test sets; repeatable",
    )
    scored.add_argument("--profile", help="how transcripts are cut: cjk (default), hike, wer, cer")
    scored.add_argument("--baseline", metavar="NAME", help="model whose differences from the others are tested")
    scored.add_argument("--out", metavar="DIR", help="folder for scores and report (default: outputs/evaluation)")
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument("--language", help="language tag: matrix (default), embedded, auto, two_tag, or a code")
    decoding.add_argument("--beams", type=int, metavar="N", help="hypotheses kept side by side; 1 is greedy (default)")
    decoding.add_argument("--backend", help="transformers (default), or faster-whisper: the model's conversion")
    decoding.add_argument(
        "--window",
        metavar="SECONDS",
        help="audio that the encoder is given: 30s, longest, seconds (default: as trained)",
    )
    decoding.add_argument(
        "--compile", action="store_true", default=None, help="translate the greedy step by torch.compile, for a GPU"
    )
    decoding.add_argument("--batch-size", type=int, metavar="N", help="utterances side by side (default: 32)")
    decoding.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    decoding.add_argument(
        "--devices", type=int, metavar="N", help="divide the utterances over so many GPUs (default: 1)"
    )
    done = parser.add_argument_group("evaluations that are done")
    done.add_argument(
        "--compare",
        nargs=2,
        metavar=("RUN_A", "RUN_B"),
        help="two evaluations' folders, or a model of one as FOLDER/NAME: paired differences, and what changed most",
    )
    return finish(parser).parse_args()


def main() -> int | None:
    """Reads the configuration, evaluates; or transcribes recordings."""
    if sys.argv[1:2] == ["transcribe"]:
        from decoding.transcribe_arguments import main as transcribe

        return transcribe(sys.argv[2:])
    given = {name: value for name, value in vars(parse()).items() if value not in (None, [])}
    if runs := given.pop("compare", None):
        from scoring.compare import compare_runs

        if others := given.keys() - {"profile"}:
            raise UserError(f"--compare transcribes nothing and takes --profile alone, not {', '.join(sorted(others))}")
        return compare_runs(*runs, **given)
    from evaluation.evaluation_options import read_options

    options = read_options(given.pop("config", []), given)

    from common.files import sole_writer
    from evaluation.evaluate_models import evaluate, evaluation

    job = evaluation(options)
    with sole_writer(job.out):
        evaluate(job)
    return None


if __name__ == "__main__":
    run_script(main)

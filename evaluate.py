"""Scores models on test sets by the mixed error rate.

python evaluate.py outputs/erm/model --config paper.yaml
python evaluate.py outputs/demo/erm/model --config demo.yaml
python evaluate.py base=openai/whisper-medium mine=outputs/erm/model --config paper.yaml --language two_tag
python evaluate.py --compare outputs/evaluation/base outputs/evaluation/mine
python evaluate.py transcribe outputs/erm/model talk.mp3     (see: python evaluate.py transcribe --help)
"""

from common.errors import run_script
from common.options import Command, Parsed, parse
from decoding.transcribe_options import TRANSCRIBE
from evaluation.evaluation_options import EvaluationOptions, check_compare, evaluation_settings

EVALUATE = Command("evaluate.py", __doc__ or "", EvaluationOptions, config=("evaluate",), commands=[TRANSCRIBE])


def main() -> int | None:
    """Evaluate, compare two evaluations, or transcribe recordings."""
    parsed = parse(EVALUATE)
    if parsed.command is TRANSCRIBE:
        return TRANSCRIBE.run(parsed.options)
    return evaluate(parsed)


def evaluate(parsed: Parsed) -> int | None:
    """Score models, or compare what was scored."""
    if parsed.options.compare:
        from scoring.compare import compare_runs

        check_compare(parsed.given)
        profile = {"profile": parsed.options.profile} if parsed.options.profile else {}
        return compare_runs(*parsed.options.compare, **profile)
    options = evaluation_settings(parsed)

    from common.files import sole_writer
    from evaluation.evaluate_models import evaluate as score
    from evaluation.evaluate_models import evaluation

    job = evaluation(options)
    with sole_writer(job.out):
        score(job)
    return None


if __name__ == "__main__":
    run_script(main)

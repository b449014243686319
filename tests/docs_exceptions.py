"""Commands of the documentation that the tests parse and do not run, each with the reason."""

from __future__ import annotations

import re

from tests.docs_commands import Command

NOT_RUN = {
    r"make ": "runs what tests/test_study_workflow.py and continuous integration run; its target is looked up",
    r"python -m pytest": "is a test itself; its files are looked up",
    r"(python3? -m venv|\. |export )": "sets up a shell",
    r"pip install": "needs a network; its extras are looked up",
    r"(hf|wandb) ": "needs a network and an account",
    r"sbatch ": "needs a cluster",
    r"snakemake .*--executor slurm": "needs a cluster",
    r"snakemake (?!.*--dry-run)": "is run by tests/test_study_workflow.py in miniature; its files are looked up",
    r"python -m workflow (run|results)": "takes hours; tests/test_study_workflow.py runs both in miniature",
    r"python .*--trainer\.(devices|num_nodes) [2-9]": "needs several GPUs",
    r"python -m torch\.distributed": "needs several GPUs; tests/faults starts ranks so",
    r"python evaluate\.py .*--devices [2-9]": "needs several GPUs; tests/test_evaluation.py has two processes",
    r"python prepare\.py pairs_of_files": "is the reader that the page lets one write",
    r"python .* --gradio": "serves a page until it is stopped",
    r"python benchmarks/": "measures for minutes",
    r"python (train|prepare)\.py .*(crosspair\.yaml|--pattern parallel)": "needs the sentences of speech/ as they are "
    "spoken; tests/test_splicing.py splices translations in miniature",
    r"python prepare\.py demo": "speaks for a minute; tests/test_synthesis.py has it speak less",
    r"python prepare\.py speak": "needs the neural voice and speaks for hours; tests/test_speak.py speaks a sentence",
    r"python prepare\.py ko_de_script .*--sheet": "reads what a person filled in; tests/test_prepare.py fills it in",
    r"python docs/site/readme_tables\.py": "rewrites README.md; tests/test_docs_examples.py runs it on a copy",
}


def reason_not_to_run(command: Command) -> str | None:
    """Why a command is only parsed; None where it is run."""
    text = " ".join(command.words)
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, text)), None)

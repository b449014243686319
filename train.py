"""Fine-tunes Whisper on language pairs.

python train.py --config fishr.yaml
python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
python train.py --config fishr.yaml --resume
python -m torch.distributed.run --nproc-per-node 2 train.py --config fishr.yaml
"""

import sys

from common.errors import run_script


def main() -> None:
    """Parses the recipe and trains."""
    if {"-h", "--help", "--print-completion"} & set(sys.argv[1:]):
        from training.train_arguments import parser

        parser().parse_args()
    sys.argv = ["--help" if word == "--help_all" else word for word in sys.argv]
    from lightning_modules.ranks import one_error
    from training.cli import TrainCLI

    with one_error():
        TrainCLI().fit()


if __name__ == "__main__":
    run_script(main)

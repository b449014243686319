"""Fine-tunes Whisper on language pairs.

python train.py --config fishr.yaml
python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
python train.py --config fishr.yaml --resume
python -m torch.distributed.run --nproc-per-node 2 train.py --config fishr.yaml
"""

from common.errors import run_script


def main() -> None:
    """Parse the recipe and train."""
    from lightning_modules.ranks import readable_rank_errors
    from training.training_run import TrainingRun

    with readable_rank_errors():
        TrainingRun().fit()


if __name__ == "__main__":
    run_script(main)

"""Fine-tunes Whisper on language pairs.

python train.py --config fishr.yaml
python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
"""

from common.errors import run_script


def main() -> None:
    """Parses the recipe and trains."""
    from lightning_modules.cli import TrainCLI

    TrainCLI().fit()


if __name__ == "__main__":
    run_script(main)

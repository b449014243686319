"""What the project does on this machine's GPU, in eight minutes at most: `make gpu-check`.

    python benchmarks/gpu_check.py [--only training decoding] [--tiny]

The most important first: training whisper-base and a whisper-medium of random weights beside the usual recipe; decoding
beside transformers' pipeline; the algorithms with the memory of each; resuming. Figures go to `outputs/benchmarks/gpu`
after every part, and at the end to docs/performance.md. `--tiny` runs every part small, on a CPU as well.
"""

from __future__ import annotations

from budget import Part, main
from measuring import RESULTS

_TRAINING = "training.py --steps 20 --warm-up 5 --curve-steps 0 --rounds 1 --windows 30s --workers 4 --models"
PARTS = {
    "training-base": Part(f"{_TRAINING} base openai/whisper-base", 60),
    "training-medium": Part(f"{_TRAINING} medium --batch 4", 90),
    "decoding": Part(
        "decoding.py --models base openai/whisper-base --utterances 64 --batch 32 --windows 30s longest --rounds 3 "
        "--precisions float32 float16 bfloat16 --compile",
        90,
    ),
    "algorithms": Part("algorithms.py --shape base --tokens 24 --device cuda --only Fish Fishr GGAL", 30),
    "algorithms-bf16": Part(
        "algorithms.py --shape base --tokens 24 --device cuda --precision bf16 --only Fish Fishr GGAL", 30
    ),
    "resuming": Part("resuming.py --algorithms ERM Fish Fishr GGAL", 40),
}
# As many parts as small as they can be, to see on any machine that they run.
TINY = {
    "training-base": Part("training.py --models nano --batch 2 --steps 3 --curve-steps 0 --rounds 1 --windows 30s", 1),
    "decoding": Part(
        "decoding.py --models nano --utterances 4 --batch 2 --tokens 4 --windows 30s --rounds 1 "
        "--precisions float32 bfloat16",
        1,
    ),
    "algorithms": Part("algorithms.py --shape nano --window 2 --utterances 1 --rounds 1 --only Fish Fishr GGAL", 1),
    "resuming": Part("resuming.py --shape nano --window 8 --algorithms ERM Fishr", 1),
}


if __name__ == "__main__":
    main(__doc__, PARTS, TINY, budget_s=480.0, folder=RESULTS / "gpu", on_gpu=True)

"""Every benchmark on the CPU, in under half an hour, then docs/performance.md: `make bench`.

    python benchmarks/run_all.py [--only training decoding] [--tiny]

Each runs in a process of its own and leaves `outputs/benchmarks/<name>.json`. A broken equality ends a benchmark with
an error, a slow machine does not. Run it on a machine that does nothing else.
"""

from __future__ import annotations

from budget import Part, main
from measuring import RESULTS

# What tells a user most comes first: what no longer fits on a slow machine is left out.
PARTS = {
    "startup": Part("startup.py", 60),
    "features": Part("features.py", 15),
    "training": Part(
        "training.py --models base openai/whisper-base --batch 2 --steps 2 --rounds 2 --curve-steps 1", 290
    ),
    "decoding": Part("decoding.py --models base openai/whisper-base --utterances 6 --batch 6 --rounds 2", 210),
    "merging": Part("merging.py --models base openai/whisper-base --dtypes float32 bfloat16", 270),
    "memory": Part("memory.py --shape base --batch 4", 300),
    "algorithms": Part("algorithms.py --shape tiny --window 8 --tokens 24 --only Fish Fishr GGAL", 80),
    "scoring": Part("scoring.py", 75),
    "preparing": Part("preparing.py --utterances 3000 --lines 200000", 40),
    "growth": Part("growth.py --shapes tiny base", 340),
}
# Seconds each, figures that mean nothing.
TINY = {
    "startup": Part("startup.py --rounds 1", 1),
    "features": Part("features.py --batch 2 --rounds 1", 1),
    "training": Part("training.py --models nano --batch 2 --steps 3 --rounds 1", 1),
    "decoding": Part("decoding.py --models nano --utterances 4 --batch 2 --rounds 1", 1),
    "merging": Part("merging.py --models nano --methods ties", 1),
    "memory": Part("memory.py --shape nano --batch 2", 1),
    "algorithms": Part("algorithms.py --shape nano --window 2 --utterances 1 --rounds 1 --only Fish Fishr GGAL", 1),
    "scoring": Part("scoring.py --utterances 500", 1),
    "preparing": Part("preparing.py --utterances 30 --lines 1000", 1),
    "growth": Part("growth.py --window 2 --rounds 1 --shapes nano", 1),
}


if __name__ == "__main__":
    main(__doc__, PARTS, TINY, budget_s=29 * 60.0, folder=RESULTS)

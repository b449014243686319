"""Whether a resumed run ends as one that was never stopped: `python benchmarks/resuming.py --shape base`.

Each algorithm trains four steps three times: twice without a stop, and once resumed from the checkpoint of the second
step; compared are all bits of the weights. PyTorch is asked for deterministic kernels, since CUDA otherwise adds in
varying order, and two runs of the same steps would differ as much as a resumed one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for to be deterministic

import torch
from measuring import write
from workload import SHAPES, corpus, model_folder

from lightning_modules import algorithms
from tests.algorithm_runs import PAIRS, fit, make, weights

STEPS, STOP = 4, 2


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--window", type=int, default=30, help="seconds of audio that the encoder takes")
    parser.add_argument("--precision", default="32-true")
    names = [name for name, _ in algorithms.named()]
    parser.add_argument("--algorithms", nargs="+", choices=names, default=names)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = model_folder(root / "model", args.shape, text_tokens=60, window_s=args.window)
        manifests = {pair: str(corpus(root / pair, 2 * STEPS, pair, seed=i)) for i, pair in enumerate(PAIRS)}
        settings = {"accelerator": "auto", "precision": args.precision, "deterministic": "warn"}
        for algorithm in args.algorithms:
            runs = []
            for number, resume in enumerate((None, None, root / f"{algorithm}-0" / "saved.ckpt")):
                out = root / f"{algorithm}-{number}"
                same = {"steps": STEPS, "save_at": STOP, "resume": resume, "trainer": settings}
                runs.append(weights(fit(model, manifests, out, make(algorithm), **same)))
            whole, again, resumed = runs
            results[algorithm] = {
                "resumed_differs_by": largest_difference(whole, resumed),
                "repeated_differs_by": largest_difference(whole, again),
            }
            print(f"{algorithm}: {results[algorithm]}", flush=True)
            write({"shape": args.shape, "precision": args.precision, "rows": results})


if __name__ == "__main__":
    main()

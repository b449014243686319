"""Waveform to log-mel of 30 s windows beside WhisperFeatureExtractor: `python benchmarks/features.py`.

The usual recipe calls the extractor for each utterance of 3 to 8 s, which pads it to 30 s. Ours takes the batch, on the
device. Both are given waveforms in memory and end with the batch of log-mels; they must agree to 1e-4.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from measuring import equal, ratio, shown, take_turns, write
from transformers import WhisperFeatureExtractor

from backbone.log_mel import LogMel
from backbone.window import Window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    draw = np.random.default_rng(0)
    seconds = [3 + 5 * ((i * 0.618) % 1) for i in range(args.batch)]
    waves = [(0.1 * draw.standard_normal(round(16_000 * s))).astype(np.float32) for s in seconds]
    results = {}
    for bins in (80, 128):
        extractor = WhisperFeatureExtractor(feature_size=bins)
        log_mel = LogMel(extractor, Window(3000)).to(args.device)

        def theirs(extractor: WhisperFeatureExtractor = extractor) -> torch.Tensor:
            mels = [extractor(wave, sampling_rate=16_000).input_features[0] for wave in waves]
            return torch.from_numpy(np.stack(mels)).to(args.device)

        def ours(log_mel: LogMel = log_mel) -> torch.Tensor:
            padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
            mel_BFT = log_mel(padded.to(args.device))
            if args.device != "cpu":
                torch.cuda.synchronize()
            return mel_BFT

        worst = equal(f"log-mel, {bins} bins", ours().cpu(), theirs().cpu(), atol=1e-4)
        seconds_of = take_turns({"ours": ours, "transformers": theirs}, args.rounds)
        faster = ratio(seconds_of["transformers"], seconds_of["ours"])
        results[str(bins)] = {"faster": faster, "largest_difference": worst, "seconds": seconds_of}
        print(f"{bins} bins, {args.batch} utterances: {shown(faster)} times as fast, differs by {worst:.1e}")
    write(results)


if __name__ == "__main__":
    main()

"""Greedy decoding beside transformers' pipeline and CTranslate2: `python benchmarks/decoding.py --shape tiny`.

From WAV files of 3 to 8 s to text, in batches, float32, as many tokens of each utterance. All must write the same, but
where two tokens are equally probable up to float32's rounding. With a short window ours must write what `generate`
writes with a model that is cut to the window by hand; its speed is set against the pipeline as it is, with 30 s.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfile
import torch
from measuring import ratio, shown, spread, take_turns, write
from transformers import pipeline
from workload import SHAPES, corpus, cut, model_folder

from backbone.model_folder.read import read_model_folder
from common.manifest import Utterance, read_manifest
from decoding.faster_whisper import FasterWhisper, convert
from decoding.transcriber import Engine, TorchWhisper, Transcriber

SHORT_S = 8
_TIE = 1e-4  # of the largest logit
GREEDY = {"language": "ko", "task": "transcribe", "num_beams": 1}  # the pipeline's own default are 5


def by_pipeline(folder: Path, batch: int, tokens: int) -> Any:
    """`automatic-speech-recognition`, batched; takes utterances, returns texts."""
    model, processor = read_model_folder(folder)
    recognise = pipeline(
        "automatic-speech-recognition",
        model=model.eval(),
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device=0 if torch.cuda.is_available() else -1,
    )
    options = GREEDY | {"max_new_tokens": tokens}

    def transcribe(utterances: list[Utterance]) -> list[str]:
        waves = ({"raw": soundfile.read(u.audio, dtype="float32")[0], "sampling_rate": 16_000} for u in utterances)
        return [one["text"].strip() for one in recognise(waves, batch_size=batch, generate_kwargs=options)]

    return transcribe


@torch.inference_mode()
def equal_but_for_ties(what: str, folder: Path, utterances: list[Utterance], ours: list[str], theirs: list[str]) -> int:
    """Refuses texts that part where the model is sure; returns how many part at a tie, which rounding decides.

    Raises:
        SystemExit: naming the texts.
    """
    model, processor = read_model_folder(folder)
    ids = processor.tokenizer.get_vocab()
    prompt = [ids[f"<|{name}|>"] for name in ("startoftranscript", "ko", "transcribe", "notimestamps")]
    parted = [row for row in zip(utterances, ours, theirs, strict=True) if row[1] != row[2]]
    for utterance, own, other in parted:
        pairs = list(zip(own.split(), other.split(), strict=False))
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        a, b = (ids.get(f"Ġ{(text.split() + [''])[place]}") for text in (own, other))
        if a is None or b is None:
            sys.exit(f"{what}: broken equality: {own!r} and {other!r}")
        wave, rate_hz = soundfile.read(utterance.audio, dtype="float32")
        mel_BFT = processor.feature_extractor(wave, sampling_rate=rate_hz, return_tensors="pt").input_features
        said_BU = torch.tensor([prompt + [ids[f"Ġ{word}"] for word in own.split()[:place]]])
        logits_V = model.eval()(input_features=mel_BFT, decoder_input_ids=said_BU).logits[0, -1]
        if (gap := float((logits_V[a] - logits_V[b]).abs() / logits_V.abs().max())) > _TIE:
            sys.exit(f"{what}: broken equality: {own!r} and {other!r}, which the logits part by {gap:.1e}")
    return len(parted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = model_folder(root / "model", args.shape, text_tokens=args.tokens, listens=True)
        utterances = read_manifest(corpus(root / "audio", args.utterances))
        cut_folder = cut(folder, root / "cut", SHORT_S)

        def torch_engine(window: str | float) -> Engine:
            return TorchWhisper(*read_model_folder(folder), device=device, window=window)

        engines: dict[str, Engine] = {str(window): torch_engine(window) for window in ("30s", SHORT_S, "longest")}
        try:
            converted = convert(folder, "benchmark", root)
            engines["faster-whisper"] = FasterWhisper(converted, folder, device=device)
        except Exception as error:  # an extra
            print(f"faster-whisper: left out: {error}")
        ways = {
            name: (lambda engine=engine: Transcriber(engine, batch_size=args.batch).transcribe(utterances))
            for name, engine in engines.items()
        }
        short = by_pipeline(cut_folder, args.batch, args.tokens)
        whole = by_pipeline(folder, args.batch, args.tokens)
        ways["pipeline"] = lambda: whole(utterances)
        texts_of = {name: way() for name, way in ways.items()}
        print(f"{len(set(texts_of['pipeline']))} different texts, such as {texts_of['pipeline'][0][:60]!r}")
        compared = {
            "the pipeline": (folder, texts_of["30s"], texts_of["pipeline"]),
            f"a window of {SHORT_S} s": (cut_folder, texts_of[str(SHORT_S)], short(utterances)),
        }
        if "faster-whisper" in texts_of:
            compared["CTranslate2"] = (folder, texts_of["30s"], texts_of["faster-whisper"])
        ties = {
            name: equal_but_for_ties(f"texts of {name}", of, utterances, *texts)
            for name, (of, *texts) in compared.items()
        }
        print(f"texts that part at a tie: {ties}")
        seconds = take_turns(ways, args.rounds, warm_up=False)
    results = {
        "utterances": args.utterances,
        "batch": args.batch,
        "tokens": args.tokens,
        "different_texts": len(set(texts_of["pipeline"])),
        "parted_at_ties": ties,
        "seconds": {name: spread(own) for name, own in seconds.items()},
        "faster": {name: ratio(seconds["pipeline"], own) for name, own in seconds.items() if name != "pipeline"},
    }
    for name, figure in results["faster"].items():
        print(f"whisper-{args.shape}, {name}: {shown(figure)} times the pipeline's utterances/s")
    write(f"decoding-{args.shape}", results)


if __name__ == "__main__":
    main()

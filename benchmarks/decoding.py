"""Greedy decoding beside transformers' pipeline and CTranslate2: `python benchmarks/decoding.py --models tiny`.

From sound files to text, in batches, in each number format. A model of random weights reads noise of 3 to 8 s and
writes as many tokens of each utterance; in float32 all must write the same, but where two tokens are equally probable
up to rounding, and with a short window what `generate` writes with a model that is cut to the window by hand. Published
weights (`openai/whisper-base`) read the spoken sentences of `speech/`; told is the share of equal texts. Speed is set
against the pipeline with 30 s in the same number format.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
import torch
from measuring import ROOT, ratio, shown, spread, take_turns, write
from transformers import pipeline
from workload import SHAPES, corpus, cut, prepared

from backbone.guards import Guards
from backbone.model_folder.read import read_model_folder
from common.audio import load_waveform
from common.constants import SAMPLE_RATE_HZ
from common.manifest import Utterance, read_manifest
from decoding.faster_whisper import FasterWhisper, convert
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Transcriber

SPEECH = ROOT / "speech" / "ko-en" / "test.jsonl"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GREEDY = {"language": "ko", "task": "transcribe", "num_beams": 1}  # the pipeline's own default are 5
NO_GUARDS = Guards(tokens_per_second=0, repeats=0)
_TIE = 1e-4  # of the largest logit

Way = Callable[[], list[str]]


def by_pipeline(
    folder: Path | str, dtype: torch.dtype, utterances: list[Utterance], batch: int, tokens: int | None
) -> Way:
    """`automatic-speech-recognition`, batched."""
    model, processor = read_model_folder(folder)
    recognise = pipeline(
        "automatic-speech-recognition",
        model=model.to(dtype).eval(),
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device=0 if DEVICE == "cuda" else -1,
        dtype=dtype,
    )
    options = GREEDY | ({"max_new_tokens": tokens} if tokens else {})

    def transcribe() -> list[str]:
        waves = (load_waveform(u.audio, u.offset, u.duration).numpy() for u in utterances)
        rows = ({"raw": wave, "sampling_rate": SAMPLE_RATE_HZ} for wave in waves)
        return [one["text"].strip() for one in recognise(rows, batch_size=batch, generate_kwargs=options)]

    return transcribe


def by_ours(
    folder: Path | str, precision: str, window: str, compiled: bool, utterances: list[Utterance], batch: int
) -> Way:
    """As `evaluate.py` decodes, without its guards against loops: both ways write as much."""
    options = {"device": DEVICE, "precision": precision, "compiled": compiled}
    options["window"] = window if window in ("30s", "longest") else float(window)
    engine = TorchWhisper(*read_model_folder(folder), **options)
    return lambda: Transcriber(engine, batch_size=batch, guards=NO_GUARDS).transcribe(utterances)


def by_faster_whisper(folder: Path, root: Path, utterances: list[Utterance], batch: int) -> Way:
    """CTranslate2, in float32."""
    engine = FasterWhisper(convert(folder, "benchmark", root), folder, device=DEVICE)
    return lambda: Transcriber(engine, batch_size=batch, guards=NO_GUARDS).transcribe(utterances)


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


def measure(model: str, args: argparse.Namespace, root: Path) -> list[dict[str, Any]]:
    """Rows of all ways to decode with a model, turn by turn in each number format."""
    is_random = model in SHAPES
    folder = prepared(model, root, text_tokens=args.tokens, listens=True)
    utterances = read_manifest(corpus(root / "audio", args.utterances) if is_random else SPEECH)[: args.utterances]
    rows = []
    for precision in args.precisions:
        dtype, rest = PRECISIONS[precision], (utterances, args.batch, args.tokens if is_random else None)
        ways: dict[tuple[str, str], Way] = {("pipeline", "30s"): by_pipeline(folder, dtype, *rest)}
        for window in args.windows:
            for compiled in (False, True)[: 1 + args.compile]:
                engine = "crosspair, compiled" if compiled else "crosspair"
                ways[engine, window] = by_ours(folder, precision, window, compiled, utterances, args.batch)
        if is_random and precision == "float32":
            try:
                ways["CTranslate2", "30s"] = by_faster_whisper(Path(folder), root, utterances, args.batch)
            except Exception as error:  # an extra
                print(f"faster-whisper: left out: {error}")
        texts = {way: transcribe() for way, transcribe in ways.items()}
        expected = texts["pipeline", "30s"]
        if is_random and precision == "float32":
            check_texts(root, Path(folder), utterances, texts, args)
        seconds = take_turns(ways, args.rounds, warm_up=False)
        for (engine, window), own in seconds.items():
            row = {"engine": engine, "window": window, "precision": precision}
            row["utterances_a_second"] = spread([len(utterances) / s for s in own])
            row["same_texts"] = sum(map(str.__eq__, texts[engine, window], expected)) / len(expected)
            if engine != "pipeline":
                row["faster_than_pipeline"] = ratio(seconds["pipeline", "30s"], own)
                print(
                    f"{model}, {engine}, {window}, {precision}: {shown(row['faster_than_pipeline'])} times the pipeline"
                )
            rows.append(row)
        del ways
        torch.cuda.empty_cache()
    return rows


def check_texts(
    root: Path,
    folder: Path,
    utterances: list[Utterance],
    texts: dict[tuple[str, str], list[str]],
    args: argparse.Namespace,
) -> None:
    """End the benchmark where texts differ but for ties."""
    different = len(set(texts["pipeline", "30s"]))
    print(f"{different} different texts, such as {texts['pipeline', '30s'][0][:60]!r}")
    for (engine, window), own in texts.items():
        if window == "30s" and engine != "pipeline":
            ties = equal_but_for_ties(f"texts by {engine}", folder, utterances, own, texts["pipeline", "30s"])
        elif window.isdecimal():
            cut_folder = cut(folder, root / f"cut-{window}", int(window))
            theirs = by_pipeline(cut_folder, torch.float32, utterances, args.batch, args.tokens)()
            ties = equal_but_for_ties(f"texts with {window} s", cut_folder, utterances, own, theirs)
        else:
            continue
        print(f"{engine}, {window}: {ties} texts part at a tie")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["tiny"], help="shapes, of random weights, and ids on the Hub")
    parser.add_argument("--windows", nargs="+", default=["30s", "8", "longest"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="with a compiled step, too")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="that a model of random weights writes")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    results: dict[str, Any] = {"utterances": args.utterances, "batch": args.batch, "models": {}}
    for model in args.models:
        if model not in SHAPES and not SPEECH.is_file():
            print(f"{model}: left out: {SPEECH} is missing; `make speech` speaks it")
            continue
        with tempfile.TemporaryDirectory() as name:
            results["models"][model] = measure(model, args, Path(name))
        write(results)


if __name__ == "__main__":
    main()

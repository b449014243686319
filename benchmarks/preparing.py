"""How long and in how much memory `prepare.py` reads many utterances: `python benchmarks/preparing.py`.

Writes a CS-FLEURS-like corpus, a UniCoM-like one, an AI-Hub-like archive and a NeMo manifest of N one-second utterances
each, prepares them, then reads a manifest of a million lines, and prints seconds by the clock and of the processor, and
the peak memory of each step, measured in its own process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import write


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--utterances", type=int, default=20_000)
    arguments.add_argument("--lines", type=int, default=1_000_000, help="of the manifest that is only read")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_corpora(root, args.utterances)
        steps = (prepare_jsonl, prepare_csv_with_guard, prepare_archive, prepare_and_draw, check_manifest)
        rows = {step.__name__: report(step, root) for step in (nothing, *steps)}
        write_long_manifest(root, args.lines)
        rows[read_long_manifest.__name__] = report(read_long_manifest, root)
    write({"utterances": args.utterances, "lines": args.lines, "rows": rows})


def report(step: Callable[[Path], None], root: Path) -> dict[str, float]:
    clock_s, processor_s, megabytes = measure(step, root)
    print(f"{step.__name__:<24} {clock_s:6.1f} s, {processor_s:6.1f} s of processor, {megabytes:5.0f} MB", flush=True)
    return {"seconds": clock_s, "processor_s": processor_s, "peak_mb": megabytes}


def write_corpora(root: Path, count: int) -> None:
    import csv
    import zipfile

    import numpy as np
    import soundfile

    from tests.corpus_trees import UNICOM_COLUMNS, unicom_row

    read, unicom = root / "read/read/test", root / "unicom/intra/train/eng_deu"
    (read / "audio/kor").mkdir(parents=True)
    unicom.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(root / "one.wav", noise, 16000, subtype="PCM_16")
    data = (root / "one.wav").read_bytes()
    with (
        (read / "metadata.jsonl").open("w", encoding="utf-8") as rows,
        (unicom / "metadata.csv").open("w", encoding="utf-8", newline="") as table,
        (root / "nemo.jsonl").open("w", encoding="utf-8") as manifest,
        zipfile.ZipFile(root / "aihub.zip", "w") as archive,
    ):
        writer = csv.writer(table)
        writer.writerow(UNICOM_COLUMNS)
        for number in range(count):
            (read / f"audio/kor/kor_{number}.wav").write_bytes(data)
            file = f"{number}_English_German_(German).wav"
            (unicom / file).symlink_to(read / f"audio/kor/kor_{number}.wav")
            text = f"이 bridge {number}번은 오래됐다."
            row = {"id": f"kor_{number}", "file_name": f"audio/kor/kor_{number}.wav", "text": text, "duration": 1.0}
            rows.write(json.dumps(row | {"fluency": 5, "language": "kor-eng", "speaker": number % 9}) + "\n")
            anchors, text = "[ 4000  8000 16000]", f"das house {number} ist alt"
            writer.writerow(unicom_row(file, "German", "[('house', 'haus')]", anchors, text, number))
            row = {"audio_filepath": f"unicom/intra/train/eng_deu/{file}", "duration": 1.0, "text": text}
            manifest.write(json.dumps(row | {"lang": "de"}) + "\n")
            dialog = {"text": f"이 브리지 {number}번은 오래됐다.", "originalForm": f"이 bridge {number}번은 오래됐다."}
            archive.writestr(f"1.Training/label/{number}.json", json.dumps({"dialogs": [dialog]}))
            archive.writestr(f"1.Training/source/{number}.pcm", data[44:])


def nothing(root: Path) -> None:
    from corpora import check, corpus, readers  # noqa: F401

    readers.discover()


def prepare_jsonl(root: Path) -> None:
    command("cs_fleurs", "--source", root / "read", "--out", root / "out/cs_fleurs", "--pairs", "ko-en")


def prepare_csv_with_guard(root: Path) -> None:
    held_out = root / "out/held_out.jsonl"  # a tenth of the sentences
    lines = (root / "out/cs_fleurs/ko-en/test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    held_out.write_text("".join(lines[::10]), encoding="utf-8")
    command("unicom", "--source", root / "unicom", "--out", root / "unicom_out", "--held-out", held_out)


def prepare_archive(root: Path) -> None:
    command("aihub", "--source", root / "aihub.zip", "--out", root / "out/aihub", "--train-utterances", 584)


def prepare_and_draw(root: Path) -> None:
    nemo = ("nemo", "--source", root / "nemo.jsonl", "--out", root / "out/nemo", "--pair", "de-en")
    command(*nemo, "--train-utterances", 584)


def check_manifest(root: Path) -> None:
    command("check", root / "out/cs_fleurs")


def write_long_manifest(root: Path, lines: int) -> None:
    line = (root / "out/nemo/train.jsonl").read_text(encoding="utf-8").splitlines()[0]
    row = json.loads(line)
    with (root / "long.jsonl").open("w", encoding="utf-8") as file:
        for number in range(lines):
            file.write(json.dumps(row | {"id": str(number)}) + "\n")


def read_long_manifest(root: Path) -> None:
    from common.manifest import iter_manifest
    from corpora.manifest_counts import ManifestCounts

    statistics = ManifestCounts()
    for utterance in iter_manifest(root / "long.jsonl", check_audio=False):
        statistics.add(utterance)


def command(*arguments: object) -> None:
    import contextlib
    import os

    from common.options import run
    from prepare import PREPARE

    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
        run(PREPARE, list(map(str, arguments)))


def measure(step: Callable[[Path], None], root: Path) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak megabytes, of a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(step, root, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        sys.exit(f"{step.__name__} failed")
    finally:
        process.join()


def _measured(step: Callable[[Path], None], root: Path, sender: multiprocessing.connection.Connection) -> None:
    began = time.perf_counter()
    step(root)
    seconds = time.perf_counter() - began, time.process_time()
    status = Path("/proc/self/status").read_text()  # its peak is this process's alone; getrusage's is its parent's too
    sender.send((*seconds, int(status.split("VmHWM:")[1].split()[0]) / 1024))


if __name__ == "__main__":
    main()

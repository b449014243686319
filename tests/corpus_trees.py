"""Small trees in the layouts the corpora are delivered in, and what their readers must make of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

Spoil = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Expected:
    """One manifest line, as worked out by hand."""

    manifest: str
    id: str
    text: str
    pair: str
    matrix: str
    duration_s: float
    spans: list[dict[str, Any]] | None = None
    speaker: str | None = None
    sentence: str | None = None
    offset_s: float = 0.0


@dataclass(frozen=True)
class Tree:
    """How to write a corpus under a folder, and what must come out; the first utterance's audio can be spoilt."""

    write: Callable[[Path, Spoil], None]
    expected: list[Expected]
    licence: str
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "."
    tables: str = ""


def noise(seconds: float, rate_hz: int, seed: int, channels: int = 1) -> np.ndarray:
    """Seeded noise: no two recordings alike, nothing clipped, nothing silent."""
    shape = (round(seconds * rate_hz), channels)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def wav(seconds: float, rate_hz: int, seed: int, subtype: str = "PCM_16", channels: int = 1) -> bytes:
    """A wav file's bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(seconds, rate_hz, seed, channels), rate_hz, subtype=subtype, format="WAV")
    return buffer.getvalue()


def put(path: Path, data: bytes | None) -> None:
    """Writes a file and its folders; nothing for None."""
    if data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _aihub(root: Path, spoil: Spoil) -> None:
    train, labels = root / "1.Training/원천데이터/TS1", root / "1.Training/라벨링데이터/TL1"
    put(train / "KE0001.wav", spoil(wav(2.0, 16000, 1)))
    words = [
        {"text": "이번", "originalForm": ""},
        {"text": "프로젝트는", "originalForm": "project는"},
        {"text": "(50%)/(오십 프로)", "originalForm": None},
        {"text": "끝났어", "originalForm": ""},
    ]
    label = {"dialogs": [{"speaker": "SPK017", "text": "b/ 이번 프로젝트는 (50%)/(오십 프로) 끝났어", "words": words}]}
    put(labels / "KE0001.json", json.dumps(label, ensure_ascii=False, indent=1).encode())
    pcm = (noise(3.0, 16000, 2)[:, 0] * 32767).astype("<i2").tobytes()
    put(train / "KE0002.pcm", pcm)
    dialogs = [
        {
            "speaker": 1,
            "text": "아/ 미팅 모+ 몇 시야 n/",
            "originalForm": "아/ meeting 모+ 몇 시야 n/",
            "startTime": 0,
            "endTime": 1.25,
        },
        {
            "speaker": 2,
            "text": "@이름1 오피스로 와",
            "originalForm": "@이름1 office로 와",
            "startTime": 1.25,
            "endTime": 2,
        },
        {"speaker": 2, "text": "쓰리 피엠", "originalForm": "three PM", "startTime": "2", "endTime": "3.0"},
    ]
    put(labels / "KE0002.json", json.dumps({"dialogs": dialogs}, ensure_ascii=False).encode())
    put(root / "2.Validation/원천데이터/KE0003.pcm", pcm[:32000])
    only_english = [{"form": "세션", "originalForm": "session"}]
    label = {"dialogs": [{"text": "그 세션에서 봐", "annotations": only_english}]}
    put(root / "2.Validation/라벨링데이터/KE0003.json", json.dumps(label, ensure_ascii=False).encode())


def _jecs(root: Path, spoil: Spoil) -> None:
    folder = root / "jecs_ver1/neutral"
    lines = ["JECS0001_CS: Ｊ*first goal*を決めた。", "JECS0002_CS: *Check*してから、また*call*します", ""]
    put(folder / "transcripts_cs.txt", "\n".join(lines).encode())
    put(folder / "transcripts_ja.txt", "JECS0001_JA: 最初のゴールを決めた。\n".encode())
    put(folder / "wav24kHz16bit/JECS0001_CS.wav", spoil(wav(2.0, 24000, 1)))
    put(folder / "wav24kHz16bit/JECS0002_CS.wav", wav(2.5, 24000, 2))


UNICOM_COLUMNS = [
    "file path", "major language", "word pair", "anchor", "transcription", "source path 1", "source id 1",
    "source language 1", "source transcription 1", "source roman 1", "source path 2", "source id 2",
    "source language 2", "source transcription 2", "source roman 2",
]  # fmt: skip


def unicom_row(file: str, major: str, pairs: str, anchor: str, text: str, sentence: int) -> list[Any]:
    """A row as the generator's `DataFrame.to_csv` writes it."""
    english = ["en.wav", sentence, "English", "the house is old", "the house is old"]
    german = ["de.wav", sentence, "German", "das haus ist alt", "das haus ist alt"]
    return [f"/home/somebody/save/intra/train/eng_deu/{file}", major, pairs, anchor, text, *english, *german]


def _unicom(root: Path, spoil: Spoil) -> None:
    folder = root / "intra/train/eng_deu"
    rows = [
        unicom_row(
            "7_English_German_(German).wav",
            "German",
            "[('house', 'haus')]",
            "[ 8000 16000 31999]",
            "das house ist alt",
            7,
        ),
        unicom_row(
            "8_English_German_(English).wav",
            "English",
            "[('over there', 'drüben'), ('green', 'grün')]",
            "[ 4000 16000 24100]",  # the voice conversion cut a few samples off the end
            "drüben is grün",
            8,
        ),
    ]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([UNICOM_COLUMNS, *rows])
    put(folder / "metadata.csv", buffer.getvalue().encode())
    put(folder / "7_English_German_(German).wav", spoil(wav(2.0, 16000, 1, "FLOAT")))
    put(folder / "8_English_German_(English).wav", wav(1.5, 16000, 2, "FLOAT"))
    put(root / "intra/train/ces_eng/metadata.csv", b"another pair's")


def _cs_fleurs(root: Path, spoil: Spoil) -> None:
    rows = [
        ("kor_101", "audio/kor/kor_101.wav", "이 bridge는 오래됐다.", 2.0, "kor-eng", 3),
        ("jpn_102", "audio/jpn/jpn_102.wav", "これはnewsです。", 1.5, "jpn-eng", None),
        ("deu_103", "audio/deu/deu_103.wav", "Das ist sehr nice, oder?", 1.0, "deu-eng", "deu_a"),
        ("ces_104", "audio/ces/ces_104.wav", "To je nice.", 1.0, "ces-eng", None),
    ]
    names = ("id", "file_name", "text", "duration", "language", "speaker")
    lines = [json.dumps(dict(zip(names, row, strict=True)) | {"fluency": 5}, ensure_ascii=False) for row in rows]
    put(root / "read/test/metadata.jsonl", ("\n".join(lines) + "\n").encode())
    for index, row in enumerate(rows):
        data = wav(row[3], 16000, index)
        put(root / "read/test" / row[1], data if index else spoil(data))
    put(root / "xtts/train/metadata.jsonl", b"{}")


def _fleurs(root: Path, spoil: Spoil) -> None:
    tables = {
        "ko_kr/train": ["7\t10.wav\t이 집은 오래됐다.\t이 집은 오래됐다\t이 | 집\t32000\tFEMALE"],
        "ko_kr/test": ["9\t11.wav\t안녕, 세상!\t안녕 세상\t안 | 녕\t16000\tMALE"],
        "en_us/train": [
            '7\t12.wav\tThis house is "old".\tthis house is old\tt | h\t24000\tMALE',
            "7\t13.wav\tThis house is old.\tthis house is old\tt | h\t16000\tFEMALE",
        ],
        "de_de/dev": ["8\t14.wav\tGrün.\tgrün\tg | r\t16000\tMALE"],
        "nde_zw/dev": ["of a language that ends alike"],
    }
    for name, lines in tables.items():
        language, split = name.split("/")
        put(root / "data" / f"{name}.tsv", ("\n".join(lines) + "\n").encode())
        for cells in (line.split("\t") for line in lines if "\t" in line):
            data = wav(int(cells[5]) / 16000, 16000, int(cells[1][:2]))
            put(root / "data" / language / "audio" / split / cells[1], spoil(data) if name == "ko_kr/train" else data)


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)


def hike_row(identity: str, text: str, data: bytes | None, loanwords: str = "[]") -> dict[str, Any]:
    """A row with the columns of HiKE's card."""
    return {
        "audio": {"bytes": data, "path": None if data is None else f"{identity}.wav"},
        "text": text,
        "text_normalized": text.lower(),
        "text_pier_labeled": text,
        "cs_level": "word",
        "cs_levels_all": "word",
        "category": "software development",
        "loanwords": loanwords,
        "sample_id": identity,
    }


def _hike(root: Path, spoil: Spoil) -> None:
    loanwords = json.dumps([{"Korean": "버그", "English": "bug"}], ensure_ascii=False)
    rows = [
        hike_row("dev-1", "이번 bug는 session에 문제가 있었어.", spoil(wav(2.0, 16000, 1)), loanwords),
        hike_row("dev-2", "I'm done. 이제 퇴근하자!", wav(1.5, 16000, 2)),
    ]
    _parquet(root / "data/test-00000-of-00001.parquet", rows)


def _ko_ja(root: Path, spoil: Spoil) -> None:
    first = {
        "audio": {"bytes": spoil(wav(2.0, 16000, 1)), "path": "a.wav"},
        "text": "오늘은 天気がいい。",
        "speaker": "F1",
    }
    second = {"audio": {"bytes": wav(1.5, 16000, 2), "path": "b.wav"}, "text": "すみません 물 주세요", "speaker": "M1"}
    _parquet(root / "data/train-00000-of-00002.parquet", [first])
    _parquet(root / "data/train-00001-of-00002.parquet", [second])


def _folder(root: Path, spoil: Spoil) -> None:
    put(root / "test/metadata.csv", "file_name,transcription,speaker\nclips/a.wav,이 Haus는 alt,kim\n".encode())
    put(root / "test/clips/a.wav", spoil(wav(2.0, 16000, 1)))
    put(root / "train/metadata.jsonl", '{"file_name": "b.flac", "text": "오늘 Wetter 좋다"}\n'.encode())
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(1.0, 48000, 2), 48000, format="FLAC")
    put(root / "train/b.flac", buffer.getvalue())


def _nemo(root: Path, spoil: Spoil) -> None:
    put(root / "wavs/a.wav", spoil(wav(2.0, 16000, 1)))
    put(root / "wavs/long.wav", wav(5.0, 16000, 2))
    rows = [
        {"audio_filepath": "wavs/a.wav", "duration": 2.0, "text": "이 Haus는 alt", "lang": "ko"},
        {"audio_filepath": "wavs/long.wav", "duration": 2.5, "offset": 0, "text": "집 und Haus"},
        {
            "audio_filepath": "wavs/long.wav",
            "duration": 1.5,
            "offset": 2.5,
            "text": "das 집 ist 좋다",
            "lang": "de",
            "speaker": "kim",
        },
    ]
    put(root / "dev_manifest.json", "".join(json.dumps(row) + "\n" for row in rows).encode())


def _span(language: str, text: str, start: float | None = None, end: float | None = None) -> dict[str, Any]:
    return {"language": language} | ({} if start is None else {"start": start, "end": end}) | {"text": text}


TREES = {
    "aihub": Tree(
        _aihub,
        [
            Expected("train", "KE0001", "이번 project는 50% 끝났어", "ko-en", "ko", 2.0, speaker="SPK017"),
            Expected("train", "KE0002-000", "아 meeting 모 몇 시야", "ko-en", "ko", 1.25, speaker="KE0002-1"),
            Expected("train", "KE0002-002", "three PM", "ko-en", "ko", 1.0, speaker="KE0002-2", offset_s=2.0),
            Expected("dev", "KE0003", "그 session에서 봐", "ko-en", "ko", 1.0),
        ],
        licence="AI-Hub terms of use, not redistributable",
        tables="*.json",
    ),
    "jecs": Tree(
        _jecs,
        [
            Expected(
                "train",
                "neutral-JECS0001_CS",
                "Ｊfirst goalを決めた。",
                "ja-en",
                "ja",
                2.0,
                [_span("ja", "Ｊ"), _span("en", "first goal"), _span("ja", "を決めた。")],
                "jecs",
            ),
            Expected(
                "train",
                "neutral-JECS0002_CS",
                "Checkしてから、またcallします",
                "ja-en",
                "ja",
                2.5,
                [_span("en", "Check"), _span("ja", "してから、また"), _span("en", "call"), _span("ja", "します")],
                "jecs",
            ),
        ],
        licence="JECS: text CC-BY-3.0, audio for non-commercial research only",
        tables="*.txt",
    ),
    "unicom": Tree(
        _unicom,
        [
            Expected(
                "train",
                "7_English_German_(German)",
                "das house ist alt",
                "de-en",
                "de",
                2.0,
                [
                    _span("de", "das ", 0.0, 0.5),
                    _span("en", "house", 0.5, 1.0),
                    _span("de", " ist alt", 1.0, 1.9999375),
                ],
                sentence="fleurs:7",
            ),
            Expected(
                "train",
                "8_English_German_(English)",
                "drüben is grün",
                "de-en",
                "en",
                1.5,
                [_span("de", "drüben", 0.0, 0.25), _span("en", " is ", 0.25, 1.0), _span("de", "grün", 1.0, 1.5)],
                sentence="fleurs:8",
            ),
        ],
        licence="UniCoM: not published; made from FLEURS (CC-BY-4.0)",
        tables="*eng_deu/metadata.csv",
    ),
    "cs_fleurs": Tree(
        _cs_fleurs,
        [
            Expected(
                "ko-en/test", "kor_101", "이 bridge는 오래됐다.", "ko-en", "ko", 2.0, speaker="3", sentence="fleurs:101"
            ),
            Expected("ja-en/test", "jpn_102", "これはnewsです。", "ja-en", "ja", 1.5, sentence="fleurs:102"),
            Expected(
                "de-en/test", "deu_103", "Das ist sehr nice, oder?", "de-en", "de", 1.0, None, "deu_a", "fleurs:103"
            ),
        ],
        licence="CC-BY-NC-4.0",
        tables="*read/test/metadata.jsonl",
    ),
    "fleurs": Tree(
        _fleurs,
        [
            Expected("ko/train", "ko-10", "이 집은 오래됐다.", "ko", "ko", 2.0, sentence="fleurs:7"),
            Expected("ko/test", "ko-11", "안녕, 세상!", "ko", "ko", 1.0, sentence="fleurs:9"),
            Expected("de/dev", "de-14", "Grün.", "de", "de", 1.0, sentence="fleurs:8"),
            Expected("en/train", "en-12", 'This house is "old".', "en", "en", 1.5, sentence="fleurs:7"),
            Expected("en/train", "en-13", "This house is old.", "en", "en", 1.0, sentence="fleurs:7"),
        ],
        licence="CC-BY-4.0",
        options={"languages": ("ko", "de", "en")},
        tables="*.tsv",
    ),
    "hike": Tree(
        _hike,
        [
            Expected("test", "dev-1", "이번 bug는 session에 문제가 있었어.", "ko-en", "ko", 2.0),
            Expected("test", "dev-2", "I'm done. 이제 퇴근하자!", "ko-en", "ko", 1.5),
        ],
        licence="Apache-2.0",
    ),
    "ko_ja": Tree(
        _ko_ja,
        [
            Expected("test", "ko_ja_0000", "오늘은 天気がいい。", "ko-ja", "ko", 2.0, speaker="F1"),
            Expected("test", "ko_ja_0001", "すみません 물 주세요", "ko-ja", "ko", 1.5, speaker="M1"),
        ],
        licence="Apache-2.0",
    ),
    "folder": Tree(
        _folder,
        [
            Expected("test", "clips/a", "이 Haus는 alt", "ko-de", "ko", 2.0, speaker="kim"),
            Expected("train", "b", "오늘 Wetter 좋다", "ko-de", "ko", 1.0),
        ],
        licence="CC0-1.0",
        options={"pair": "ko-de", "licence": "CC0-1.0", "corpus": "mine"},
        tables="*metadata.*",
    ),
    "nemo": Tree(
        _nemo,
        [
            Expected("dev", "wavs/a", "이 Haus는 alt", "ko-de", "ko", 2.0),
            Expected("dev", "wavs/long", "집 und Haus", "ko-de", "ko", 2.5),
            Expected("dev", "wavs/long@2.5", "das 집 ist 좋다", "ko-de", "de", 1.5, speaker="kim", offset_s=2.5),
        ],
        licence="not stated",
        options={"pair": "ko-de"},
        tables="*.json",
    ),
}

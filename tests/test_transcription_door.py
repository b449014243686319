"""The door for other programs, asked in process as clients of OpenAI's API ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import pytest

from common.errors import UserError
from decoding.segments import Segment
from decoding.transcribe_options import RecordingDecoding
from decoding.transcriber import Hypothesis
from decoding.transcript import Transcript
from decoding.transcription_door import PATH, add_door
from decoding.words import TimedWord

pytest.importorskip("gradio")


class Parrot:
    """A model that writes what it was sent and told."""

    def __init__(self, name: str) -> None:
        self.name, self.how, self.transcriber = name, RecordingDecoding(prompt="always"), SimpleNamespace(language="")

    def expect(self, context: str) -> None:
        self.context = context

    def __call__(self, files: list[Path]) -> Iterator[Transcript]:
        text = f"{self.name} {files[0].read_text()} {self.transcriber.language} {self.context}"
        words = (TimedWord(0.25, 1.0, text, "ko", 0.5),)
        yield Transcript(files[0], self.name, [Segment(0, 1)], [Hypothesis(text, languages=("ko",), words=words)])


@pytest.fixture
def client(tmp_path: Path):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    def check(path: Path) -> None:
        if path.read_text() == "broken":
            raise UserError(f"{path}: the audio cannot be read")

    app = FastAPI()
    add_door(app, [Parrot("one"), Parrot("two")], tmp_path, Lock(), check)
    return TestClient(app)


def ask(client, content: str = "sound", **fields: str):
    return client.post(PATH, files={"file": ("../a.wav", content.encode())}, data=fields)


def test_models_languages_and_prompts_are_chosen_for_each_request(client, tmp_path: Path):
    given = {"model": "two", "language": "ja", "prompt": "names"}
    assert ask(client, **given).json() == {"text": "two sound ja names"}
    assert ask(client, model="whisper-1").json() == {"text": "one sound auto always"}
    assert list(tmp_path.iterdir()) == []


def test_every_format_of_the_api_is_answered(client):
    assert ask(client, response_format="text").text == "one sound auto always\n"
    assert ask(client, response_format="srt").text.startswith("1\n00:00:00,250 --> 00:00:01,000\none sound")
    assert ask(client, response_format="vtt").text.startswith("WEBVTT\n")
    found = ask(client, response_format="verbose_json").json()
    assert found["duration"] == 1 and found["language"] == "ko"
    assert found["words"] == [{"word": found["text"], "start": 0.25, "end": 1.0, "language": "ko"}]
    assert [(part["start"], part["end"], part["text"]) for part in found["segments"]] == [(0, 1, found["text"])]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("sound", {"model": "three"}, "model: 'three' is not served here, expected one of one, two"),
        ("sound", {"response_format": "docx"}, "response_format: 'docx' is none of json, text, srt, vtt, verbose_json"),
        ("broken", {}, "recording: the audio cannot be read"),
    ],
)
def test_mistakes_are_told_as_clients_expect_them(client, tmp_path: Path, content: str, fields: dict, message: str):
    answer = ask(client, content, **fields)
    assert answer.status_code == 400 and answer.json()["error"]["message"] == message
    assert list(tmp_path.iterdir()) == []

"""The door for other programs, asked in process as clients of OpenAI's API ask."""

from __future__ import annotations

import asyncio
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
        found = Hypothesis(text, None, 0.2, [7, 8], ("ko",), words=words, mean_log_probability=-0.25)
        yield Transcript(files[0], self.name, [Segment(0.5, 1), Segment(1, 2, False)], [found, Hypothesis("")])


@pytest.fixture
def app(tmp_path: Path):
    from fastapi import FastAPI

    def check(path: Path) -> None:
        if path.read_text() == "broken":
            raise UserError(f"{path}: the audio cannot be read")

    app = FastAPI()
    add_door(app, [Parrot("one"), Parrot("two")], tmp_path, Lock(), check)
    return app


@pytest.fixture
def client(app):
    from fastapi.testclient import TestClient

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
    assert found["duration"] == 2 and found["language"] == "ko"
    assert found["words"] == [{"word": found["text"], "start": 0.25, "end": 1.0, "language": "ko"}]
    assert [(part["start"], part["end"], part["text"]) for part in found["segments"]] == [(0.5, 1, found["text"])]


SEGMENT = {"avg_logprob": float, "compression_ratio": float, "end": float, "id": int, "no_speech_prob": float,
           "seek": int, "start": float, "temperature": float, "text": str, "tokens": list}  # fmt: skip
ASKED = (  # what openai 2 sends for `create(file=open("a b.wav", "rb"), model="whisper-1", ...)`
    b'--frontier\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="language"\r\n\r\nja\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nverbose_json\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="temperature"\r\n\r\n0.2\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nword\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nsegment\r\n'
    b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a b.wav"\r\n'
    b"Content-Type: audio/x-wav\r\n\r\nsound\r\n--frontier--\r\n"
)


def test_a_client_of_the_api_is_answered_with_all_that_its_types_promise(client):
    """The bytes and headers of openai's own client, and the fields that it calls required."""
    headers = {"authorization": "Bearer sk-none", "content-type": "multipart/form-data; boundary=frontier",
               "user-agent": "OpenAI/Python 2.0.0", "x-stainless-retry-count": "0"}  # fmt: skip
    answer = client.post(PATH, content=ASKED, headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["text"] == "one sound ja always" and isinstance(found["duration"], float | int)
    (segment,) = found["segments"]
    assert all(isinstance(segment[name], kind) for name, kind in SEGMENT.items() if kind is not float)
    assert all(isinstance(segment[name], float | int) for name, kind in SEGMENT.items() if kind is float)
    assert (segment["seek"], segment["tokens"], segment["avg_logprob"]) == (50, [7, 8], -0.25)
    assert {"word", "start", "end"} <= found["words"][0].keys()


def test_openai_s_own_client_is_answered(app, tmp_path: Path):
    openai, httpx = pytest.importorskip("openai"), pytest.importorskip("httpx")
    (tmp_path / "a b.wav").write_text("sound")
    (tmp_path / "bad.wav").write_text("broken")

    async def asked(name: str, **options: object) -> object:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as http:
            client = openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key="none", http_client=http, max_retries=0)
            options = {"file": tmp_path / name, "model": "two", "temperature": 0} | options
            return await client.audio.transcriptions.create(**options)

    assert asyncio.run(asked("a b.wav")).text == "two sound auto always"
    assert asyncio.run(asked("a b.wav", response_format="text")) == "two sound auto always\n"
    granularities = {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    found = asyncio.run(asked("a b.wav", **granularities))
    assert type(found).model_validate(found.to_dict(), strict=False) == found
    assert (found.segments[0].tokens, found.words[0].start, found.words[0].language) == ([7, 8], 0.25, "ko")
    with pytest.raises(openai.BadRequestError, match="recording: the audio cannot be read"):
        asyncio.run(asked("bad.wav"))


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

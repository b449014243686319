"""The page with a microphone, asked as browsers and strangers ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import soundfile

from common.errors import UserError
from decoding import microphone_page
from decoding.segments import Segment
from decoding.transcribe_options import RecordingDecoding
from decoding.transcriber import Hypothesis
from decoding.transcript import Transcript
from decoding.transcription_door import PATH

pytest.importorskip("gradio")
ROOT = Path(__file__).parent.parent


class Echo:
    """A model that writes how long the recording is, and fails on silence."""

    name, how, transcriber = "echo", RecordingDecoding(), SimpleNamespace(language="auto")

    def expect(self, context: str) -> None:
        assert context == ""

    def __call__(self, files: list[Path]) -> Iterator[Transcript]:
        samples, rate_hz = soundfile.read(files[0])
        if not samples.any():
            raise UserError(f"{files[0]}: silence, as in {ROOT}/somewhere/else.wav")
        yield Transcript(files[0], self.name, [Segment(0, len(samples) / rate_hz)], [Hypothesis("heard")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(microphone_page, "MOST_BYTES", 200_000)
        patch.setattr(microphone_page, "MOST_S", 3.0)
        patch.setenv("GRADIO_TEMP_DIR", "")
        demo = microphone_page.page([Echo()], folder)
        microphone_page.launch(demo, [Echo()], folder, port)
        yield f"http://127.0.0.1:{port}"
        demo.close(verbose=False)


def sound(path: Path, seconds: float = 0.5, level: float = 0.1, rate_hz: int = 16_000) -> bytes:
    soundfile.write(path, np.full(round(seconds * rate_hz), level), rate_hz)
    return path.read_bytes()


def upload(address: str, content: bytes, name: str = "voice.wav", **headers: str) -> httpx.Response:
    return httpx.post(f"{address}/gradio_api/upload", files={"files": (name, content)}, headers=headers, timeout=30)


def transcribe(address: str, path: str) -> tuple[str, str]:
    """The event that ends a call, and its data."""
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "auto"]
    call = httpx.post(f"{address}/gradio_api/call/transcribed", json={"data": data}, timeout=30).json()
    answer = httpx.get(f"{address}/gradio_api/call/transcribed/{call['event_id']}", timeout=30).text
    event, _, rest = answer.strip().rpartition("event: ")[2].partition("\ndata: ")
    return event, rest


def test_a_recording_is_deleted_once_it_is_transcribed(address: str, folder: Path, tmp_path: Path):
    (path,) = upload(address, sound(tmp_path / "a.wav")).json()
    assert Path(path).is_relative_to(folder) and Path(path).is_file()
    event, data = transcribe(address, path)
    assert event == "complete", data
    recording, view = json.loads(data)
    assert recording is None and "<h3>echo: 0.5 s of speech in" in view and "<p>heard</p>" in view
    assert str(folder) not in view
    assert not [file for file in folder.rglob("*") if file.is_file()]
    assert transcribe(address, path)[0] == "error"  # it is gone


def test_the_door_for_other_programs_lies_behind_the_same_gate(address: str, folder: Path, tmp_path: Path):
    def ask(content: bytes, **headers: str) -> httpx.Response:
        return httpx.post(f"{address}{PATH}", files={"file": ("a.wav", content)}, headers=headers, timeout=60)

    short = sound(tmp_path / "a.wav")
    assert ask(short).json() == {"text": "heard"}
    assert "lasts" in ask(sound(tmp_path / "b.wav", seconds=4, rate_hz=8000)).json()["error"]["message"]
    assert ask(short, Origin="http://evil.example").status_code == 403
    assert ask(bytes(1_500_000)).status_code == 413
    assert not [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda path: b"no sound", "the audio cannot be read"),
        (lambda path: sound(path, level=0.0), "silence, as in else.wav"),
        (lambda path: sound(path, seconds=4, rate_hz=8000), "lasts"),
    ],
)
def test_errors_tell_no_places_and_keep_nothing(address: str, folder: Path, tmp_path: Path, content, says: str):
    (path,) = upload(address, content(tmp_path / "a.wav"), name="secret <b>name.wav").json()
    event, data = transcribe(address, path)
    assert event == "error" and says in data
    assert str(folder) not in data and str(ROOT) not in data and "/" not in data.replace("&lt;/b", "")
    assert not [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "README.md"), "../../etc/passwd"])
def test_other_files_are_neither_read_nor_deleted(address: str, path: str):
    event, data = transcribe(address, path)
    assert event == "error" and "root:" not in data and str(ROOT) not in data.replace(path, "")
    assert (ROOT / "README.md").is_file()
    assert httpx.get(f"{address}/gradio_api/file={path}", timeout=30).status_code in (403, 404)


def test_too_large_an_upload_is_refused_and_leaves_nothing(address: str, folder: Path):
    assert upload(address, bytes(300_000)).status_code == 413
    assert upload(address, bytes(1_500_000)).status_code == 413
    chunks = (bytes(1000) for _ in range(3))
    assert httpx.post(f"{address}/gradio_api/upload", content=chunks, timeout=30).status_code == 411
    assert not [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:7860"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_only_pages_of_this_machine_are_served(address: str, headers: dict[str, str]):
    assert httpx.get(address, headers=headers, timeout=30).status_code == 403
    assert upload(address, b"x", **headers).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_a_preflight_of_a_foreign_page_is_refused_and_allows_nothing(address: str, origin: str):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = httpx.options(f"{address}/gradio_api/upload", headers={"Origin": origin, **asked}, timeout=30)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
PART = '--x\r\nContent-Disposition: form-data; name="files"'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (MULTIPART, f'{PART}; filename=".."\r\n\r\nvoice\r\n--x--\r\n'),
        (MULTIPART, f'{PART}; filename="a/.."\r\n\r\nvoice\r\n--x--\r\n'),
        (MULTIPART, f"{PART}\r\n\r\nvoice\r\n--x--\r\n"),
        (MULTIPART, f'{PART}; filename="a.wav"\r\n\r\nvoice without an end'),
        ({"Content-Type": "multipart/form-data"}, "voice"),
        ({}, "voice"),
    ],
    ids=["climbs", "climbs deeper", "no file name", "no end", "no boundary", "no form"],
)
def test_an_upload_that_is_none_is_refused_and_leaves_nothing(address: str, folder: Path, headers, body: str):
    answer = httpx.post(f"{address}/gradio_api/upload", content=body.encode(), headers=headers, timeout=30)
    assert answer.status_code == 400 or answer.json() == []
    for _ in range(50):  # what was left is deleted just after the answer
        if not (left := [file for file in folder.rglob("*") if file.is_file()]):
            break
        time.sleep(0.1)
    assert not left


def test_an_upload_that_breaks_off_leaves_nothing_and_disturbs_no_other(address: str, folder: Path, tmp_path: Path):
    port = int(address.rpartition(":")[2])
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
    head += f'Content-Type: {MULTIPART["Content-Type"]}\r\n\r\n{PART}; filename="a.wav"\r\n\r\nvoice'
    with socket.create_connection(("127.0.0.1", port)) as browser:
        browser.sendall(head.encode())
        wait_until(lambda: any(file.is_file() for file in folder.iterdir()))
        (path,) = upload(address, sound(tmp_path / "a.wav")).json()
        assert any(file.is_file() for file in folder.iterdir())  # the other's part, which is still on its way
    wait_until(lambda: not any(file.is_file() for file in folder.iterdir()))
    assert transcribe(address, path)[0] == "complete"


def wait_until(happens: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_every_name_of_this_machine_is_served(address: str, host: str):
    assert httpx.get(address, headers={"Host": host, "Origin": f"http://{host}"}, timeout=30).status_code == 200


def test_recordings_that_nobody_had_transcribed_are_deleted(address: str, folder: Path, tmp_path: Path):
    (path,) = upload(address, sound(tmp_path / "a.wav")).json()
    os.utime(path, (time.time() - 3600,) * 2)
    (other,) = upload(address, sound(tmp_path / "b.wav", seconds=0.3), name="other.wav").json()
    assert not Path(path).exists() and Path(other).exists()
    Path(other).unlink()


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_the_page_ends_no_recording_stays(tiny_model: Path, tmp_path: Path, end: signal.Signals):
    def start() -> tuple[subprocess.Popen, str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "evaluate.py", "transcribe", str(tiny_model), "--gradio", "--port", str(port)]
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        return process, f"http://127.0.0.1:{port}"

    process, address = start()
    (path,) = upload(address, sound(tmp_path / "a.wav")).json()
    assert Path(path).is_relative_to(tmp_path)
    process.send_signal(end)
    process.wait(600)  # a loaded machine needs some
    if end == signal.SIGKILL:
        assert Path(path).exists()
        process, _ = start()  # the next page deletes what this one had to leave
        assert not Path(path).exists()
        process.send_signal(signal.SIGINT)
        process.wait(600)  # a loaded machine needs some
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]

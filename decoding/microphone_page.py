"""A web page with a microphone that shows each model's transcript; by gradio, an extra.

Voices are private: recordings lie in a folder that only this user can read. Each is deleted once it is transcribed, and
the folder when the page ends. If the page is killed, the next page deletes the folder.
"""

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from backbone.language_tags import AUTO, DETECTED, POLICIES
from backbone.model_folder.candidates import Candidate
from common.errors import UserError
from common.escape import html
from common.files import scratch_folder
from common.printing import show, warn
from common.sound_files import opened
from decoding.recordings import RecordingTranscriber
from decoding.transcribe_options import RecordingDecoding
from decoding.transcript_view import STYLE, transcript_view
from decoding.transcription_door import add_door

MOST_BYTES = 200 * 2**20
MOST_S = 30 * 60.0
_UNUSED_S = 600.0  # a recording older than this that nobody transcribed is deleted at the next upload
_ONE_AT_A_TIME = Lock()  # held while a recording is transcribed, by the page or by the endpoint beside it
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def serve(models: Sequence[Candidate], how: RecordingDecoding, port: int) -> None:
    """Serve the page on this machine until interrupted.

    Args:
        models: to transcribe with.
        how: to transcribe.
        port: of the page.

    Raises:
        UserError: where gradio is not installed, or the port is taken.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with scratch_folder(Path(tempfile.gettempdir()) / "crosspair-page") as folder:
        transcribers = [RecordingTranscriber(model, how, words=True) for model in models]
        demo = page(transcribers, folder)
        try:
            launch(demo, transcribers, folder, port)
        except OSError as error:
            raise UserError(f"--port {port}: {error}") from None
        show(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
        demo.block_thread()


def launch(demo: Any, transcribers: Sequence[RecordingTranscriber], folder: Path, port: int) -> None:
    """Start the server of the page and of the endpoint for other programs, for this machine alone.

    Args:
        demo: the page.
        transcribers: the models.
        folder: of the recordings.
        port: of the page.

    Raises:
        OSError: where the port is taken.
    """

    @asynccontextmanager
    async def gated(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = _Gate(app.middleware_stack, folder)  # before gradio answers CORS preflights
        yield

    demo.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        css=STYLE,
        run_history=False,  # which browsers would keep
        enable_monitoring=False,
        max_file_size=MOST_BYTES,
        app_kwargs={"lifespan": gated, "exception_handlers": {Exception: _unusable}},
    )
    add_door(demo.app, transcribers, folder, _ONE_AT_A_TIME, _check_length)


class _Gate:
    """Let requests through only if they come from a page of this machine and are no larger than a recording may be.

    A foreign host name that resolves to this machine (DNS rebinding) is refused.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Path) -> None:
        self.app, self.folder, self.uploads = app, folder, 0

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        if scope["type"] == "websocket":  # the page needs none
            await send({"type": "websocket.close"})
        if scope["type"] == "http":
            # There is no proxy in front of the page, so headers that a proxy would set cannot be trusted.
            own = [(name, value) for name, value in scope["headers"] if not name.startswith(b"x-forwarded-")]
            scope = {**scope, "headers": own}
            given = {name.decode("latin-1"): value.decode("latin-1") for name, value in own}
            if refusal := _refusal(given, scope["method"]):
                await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send)
                return
            upload = self._upload() if scope["path"].endswith("/upload") else nullcontext()
            with suppress(Exception), upload:  # an error is answered by `_unusable`
                await self.app(scope, receive, send)

    @contextmanager
    def _upload(self) -> Iterator[None]:
        """Delete old recordings before an upload, and after it what failed or interrupted uploads left."""
        _delete(file for file in self.folder.rglob("*") if _is_unused(file))
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1
            if not self.uploads:  # complete recordings lie one folder deeper and stay
                _delete(self.folder.iterdir())


async def _unusable(request: Any, error: Exception) -> Any:
    """Answer a request that fails in gradio; the page itself sends none."""
    from starlette.responses import PlainTextResponse

    warn(f"warning: {request.url.path}: a request that cannot be used ({type(error).__name__}: {error})")
    return PlainTextResponse("The request cannot be used", 400)


def _refusal(headers: Mapping[str, str], method: str) -> tuple[int, str] | None:
    """Return the status and message of the refusal; None if the request is served."""
    addresses = [f"//{headers.get('host', '')}", *([headers["origin"]] if "origin" in headers else [])]
    if not all(map(_is_loopback, addresses)):
        return 403, "This page is for browsers of the machine that it runs on, as http://127.0.0.1 or http://localhost"
    size = headers.get("content-length", "")
    if method == "POST" and not size.isdecimal():
        return 411, "The request does not say how long it is"
    if method == "POST" and int(size) > MOST_BYTES + 2**20:
        return 413, f"Recordings have at most {MOST_BYTES // 2**20} MB"
    return None


def _is_loopback(address: str) -> bool:
    try:
        return urlsplit(address).hostname in _LOOPBACK
    except ValueError:
        return False


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # a folder, or gone already
            path.unlink()


def _is_unused(path: Path) -> bool:
    """Whether nobody had the recording transcribed."""
    with suppress(OSError):
        return path.is_file() and time.time() - path.stat().st_mtime > _UNUSED_S
    return False


def page(transcribers: Sequence[RecordingTranscriber], folder: Path) -> Any:
    """Build the page.

    Args:
        transcribers: the models.
        folder: for recordings.

    Raises:
        UserError: where gradio is not installed.
    """
    folder = folder.resolve()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read while the page is built
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"--gradio needs gradio ({error}): pip install -e '.[gradio]'") from None
    limits = f"{MOST_S / 60:.0f} minutes and {MOST_BYTES // 2**20} MB"
    with gradio.Blocks(title="CrossPair") as demo:
        gradio.Markdown(
            f"# CrossPair\nSpeak, or drop a recording of at most {limits}; each model writes its transcript. "
            "The recording is deleted as soon as it is transcribed."
        )
        with gradio.Row():
            audio = gradio.Audio(sources=["microphone", "upload"], type="filepath", label="Speech")
            with gradio.Column():
                first = transcribers[0].how
                choices = [*DETECTED, *first.languages] if first.languages else [AUTO, "ko", "ja", "de", "en"]
                choices = list(POLICIES) if first.pair else choices
                language = gradio.Dropdown(choices, value=first.tag, label="Language tag", allow_custom_value=True)
                button = gradio.Button("Transcribe", variant="primary")
        with gradio.Row():
            boxes = []
            for one in transcribers:
                with gradio.Column(min_width=320):  # on a telephone one below the other
                    boxes.append(gradio.HTML(f"<h3>{html(one.name)}</h3>"))

        def transcribed(path: str | None, tag: str) -> list[Any]:
            file = Path(path or folder).resolve()
            if not file.is_relative_to(folder) or not file.is_file():
                raise gradio.Error("There is no recording yet.")
            try:
                _check_length(file)
                with _ONE_AT_A_TIME:
                    return [None, *(_view(transcriber, file, tag) for transcriber in transcribers)]
            except (UserError, OSError) as error:
                raise gradio.Error(html(_without_places(str(error), file))) from None
            finally:
                shutil.rmtree(folder / file.relative_to(folder).parts[0], ignore_errors=True)
                file.unlink(missing_ok=True)

        button.click(transcribed, [audio, language], [audio, *boxes], concurrency_limit=1)
    return demo


def _check_length(path: Path) -> None:
    with opened(path) as sound:
        if sound.frames > MOST_S * sound.samplerate:
            found = f"{sound.frames / sound.samplerate / 60:.0f} minutes"
            raise UserError(
                f"{path.name}: lasts {found}, expected at most {MOST_S / 60:.0f}; transcribe it by its path"
            )


def _without_places(message: str, path: Path) -> str:
    """A message without the folders of this machine."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)", r"\1", message.replace(str(path), path.name))


def _view(model: RecordingTranscriber, path: Path, tag: str) -> str:
    begun = time.perf_counter()
    model.transcriber.language = tag
    model.expect(model.how.context)
    (transcript,) = model([path])
    length = transcript.segments[-1].end
    took = time.perf_counter() - begun
    transcript = replace(transcript, file=Path(path.name))  # without the folders of this machine
    return transcript_view(transcript, f"{model.name}: {length:.1f} s of speech in {took:.1f} s")

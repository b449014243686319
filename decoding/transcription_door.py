"""An endpoint for other programs beside the page: `POST /v1/audio/transcriptions`, as in OpenAI's API.

Requests pass the page's checks: only from this machine, and within the page's size limit.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from common.errors import UserError
from common.text_compression import compression_ratio
from decoding.recordings import RecordingTranscriber
from decoding.transcript import Transcript

PATH = "/v1/audio/transcriptions"
_ANY = "whisper-1"  # the name that clients without a choice of models send; it stands for the first model


def add_door(
    app: Any, transcribers: Sequence[RecordingTranscriber], folder: Path, lock: Lock, check: Callable[[Path], None]
) -> None:
    """Add the endpoint to an application of FastAPI.

    Args:
        app: the application.
        transcribers: the models, by whose names clients choose.
        folder: for recordings.
        lock: held while a model transcribes.
        check: raises UserError for a recording that is not to be transcribed.
    """
    from fastapi import Form, UploadFile
    from fastapi.responses import JSONResponse, PlainTextResponse

    models = {one.name: one for one in transcribers}

    def transcriptions(
        file: UploadFile,
        model: str = Form(_ANY),
        language: str = Form(""),
        prompt: str = Form(""),
        response_format: str = Form("json"),
    ) -> Any:
        """Transcribe one recording; each request waits for those before it."""
        scratch = Path(tempfile.mkdtemp(dir=folder))
        try:
            found = models.get(transcribers[0].name if model == _ANY else model)
            if found is None:
                raise UserError(f"model: {model!r} is not served here, expected one of {', '.join(models)}")
            if response_format not in _FORMS:
                raise UserError(f"response_format: {response_format!r} is none of {', '.join(_FORMS)}")
            recording = scratch / "recording"
            with recording.open("wb") as out:
                shutil.copyfileobj(file.file, out)
            check(recording)
            with lock:
                found.transcriber.language = language or found.how.tag
                found.expect(prompt or found.how.context)
                (transcript,) = found([recording])
        except (UserError, OSError) as error:
            message = str(error).replace(f"{scratch}/", "")
            told = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            return JSONResponse({"error": told}, 400)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        content = _FORMS[response_format](transcript)
        return PlainTextResponse(content) if isinstance(content, str) else JSONResponse(content)

    app.add_api_route(PATH, transcriptions, methods=["POST"])


def _verbose(transcript: Transcript) -> dict[str, Any]:
    heard = [(part, one) for part, one in zip(transcript.segments, transcript.hypotheses, strict=True) if one.text]
    languages = [code for _, one in heard for code in one.languages]
    return {
        "task": "transcribe",
        "language": languages[0] if languages else "",
        "duration": transcript.segments[-1].end,
        "text": transcript.text,
        "segments": [
            {
                "id": number,
                "seek": round(100 * part.start),  # frames of 10 ms, as in openai/whisper
                "start": part.start,
                "end": part.end,
                "text": one.text,
                "tokens": list(one.tokens),
                "temperature": one.temperature,
                "avg_logprob": one.mean_log_probability,
                "compression_ratio": compression_ratio(one.text),
                "no_speech_prob": 0.0,  # parts without speech were not transcribed
            }
            for number, (part, one) in enumerate(heard)
        ],
        "words": [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3), "language": word.language}
            for _, one in heard
            for word in one.words
        ],
    }


_FORMS: dict[str, Callable[[Transcript], Any]] = {
    "json": lambda transcript: {"text": transcript.text},
    "text": lambda transcript: transcript.written("txt"),
    "srt": lambda transcript: transcript.written("srt"),
    "vtt": lambda transcript: transcript.written("vtt"),
    "verbose_json": _verbose,
}

"""A web page with a microphone that shows each model's transcript; by gradio, an extra."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbone.language_tags import POLICIES
from backbone.model_folder.candidates import Candidate
from common.errors import UserError
from common.printing import show
from decoding.recordings import RecordingTranscriber
from decoding.transcribe_options import RecordingDecoding


def serve(models: Sequence[Candidate], how: RecordingDecoding, port: int) -> None:
    """Serve the page on this machine until interrupted.

    Args:
        models: to transcribe with.
        how: to transcribe.
        port: of the page.

    Raises:
        UserError: where gradio is not installed, or the port is taken.
    """
    demo = page([RecordingTranscriber(model, how) for model in models])
    try:
        demo.launch(server_name="127.0.0.1", server_port=port, share=False, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise UserError(f"--port {port}: {error}") from None
    show(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    demo.block_thread()


def page(transcribers: Sequence[RecordingTranscriber]) -> Any:
    """Build the page.

    Raises:
        UserError: where gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"--gradio needs gradio ({error}): pip install -e '.[gradio]'") from None
    with gradio.Blocks(title="CrossPair") as demo:
        gradio.Markdown("# CrossPair\nSpeak, or drop a recording of any length; each model writes its transcript.")
        with gradio.Row():
            audio = gradio.Audio(sources=["microphone", "upload"], type="filepath", label="Speech")
            with gradio.Column():
                first = transcribers[0].how
                choices = list(POLICIES) if first.pair else ["auto", "ko", "ja", "de", "en"]
                language = gradio.Dropdown(choices, value=first.tag, label="Language tag", allow_custom_value=True)
                button = gradio.Button("Transcribe", variant="primary")
        with gradio.Row(equal_height=True):
            boxes = [gradio.Textbox(label=one.name, lines=6, buttons=["copy"]) for one in transcribers]

        def transcribed(path: str | None, tag: str) -> list[Any]:
            if path is None:
                raise gradio.Error("There is no recording yet.")
            try:
                return [gradio.Textbox(**_box(transcriber, Path(path), tag)) for transcriber in transcribers]
            except UserError as error:
                raise gradio.Error(str(error)) from None

        button.click(transcribed, [audio, language], boxes, concurrency_limit=1)
    return demo


def _box(model: RecordingTranscriber, path: Path, tag: str) -> dict[str, str]:
    begun = time.perf_counter()
    model.transcriber.language = tag
    (transcript,) = model([path])
    length = transcript.segments[-1].end
    took = time.perf_counter() - begun
    return {"value": transcript.text, "label": f"{model.name}: {length:.1f} s of speech in {took:.1f} s"}

"""Transcribing recordings: cut at pauses, of any length and format, written as text, subtitles and JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from backbone.language_tags import context_ids, most_probable
from backbone.model_folder.candidates import candidates
from backbone.model_folder.read import read_model_folder
from common.audio import load_waveform
from common.errors import UserError
from common.escape import html
from common.manifest import Utterance
from common.options import run
from decoding.recordings import RecordingTranscriber
from decoding.segments import Segment, segments_of, sound_of
from decoding.torch_whisper import TorchWhisper
from decoding.transcribe_options import TRANSCRIBE, RecordingDecoding
from decoding.transcriber import Hypothesis, Transcriber
from decoding.transcript import Transcript

ROOT = Path(__file__).parent.parent
HZ = 16_000
# "Mittlerweile hat er sich dem Skydance-Acro-Team angeschlossen.", of Kerstin's recordings (rhasspy), CC0-1.0
GREEDY = ("--temperatures", "0", "--no-speech", "1")
SPEECH = soundfile.read(Path(__file__).parent / "kerstin.opus")[0]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def write(path: Path, *parts: np.ndarray, rate_hz: int = 16_000) -> Path:
    soundfile.write(path, np.concatenate(parts), rate_hz)
    return path


def test_long_recordings_are_cut_in_their_pauses(tmp_path: Path):
    quiet = np.zeros(8_000)
    talk = write(tmp_path / "talk.wav", noise(3), quiet, noise(3), quiet, noise(2.5))
    found = segments_of(talk, longest_s=4, everything=True)
    assert [segment.start for segment in found[1:]] == pytest.approx([3.25, 6.75], abs=0.25)
    assert found[0].start == 0 and found[-1].end == 9.5
    for one, two in pairwise(found):
        assert one.end == two.start
    assert all(segment.end - segment.start <= 4 and segment.has_speech for segment in found)


def test_of_several_rests_the_longest_parts_the_speech(tmp_path: Path):
    one, two, rest = SPEECH[int(0.3 * HZ) : int(2.8 * HZ)], SPEECH[int(0.3 * HZ) : int(1.1 * HZ)], np.zeros(HZ)
    talk = write(tmp_path / "talk.wav", one, rest, two, rest[: int(0.35 * HZ)], one)
    first, second = segments_of(talk, longest_s=5)
    assert first.end == second.start == pytest.approx(3.0, abs=0.25)  # not at 4.5, in the short rest that comes later


def test_a_rest_that_is_long_enough_ends_a_segment_of_two_seconds(tmp_path: Path):
    """Rests of 0.8 s around 2.9, 6.2, 7.8 and 13.9 s, of which the last two would leave 1.6 and 1.2 s; one of 0.3 s."""
    long, short, rest = SPEECH[int(0.3 * HZ) : int(2.8 * HZ)], SPEECH[int(0.3 * HZ) : int(1.1 * HZ)], np.zeros(HZ)
    rest, brief = rest[: int(0.8 * HZ)], rest[: int(0.3 * HZ)]
    talk = write(tmp_path / "talk.wav", long, rest, long, rest, short, rest, long, brief, long, rest, short)
    assert [segment.has_speech for segment in segments_of(talk, longest_s=30)] == [True]
    found = segments_of(talk, longest_s=30, rest_s=0.5)
    assert [segment.start for segment in found] == pytest.approx([0, 2.9, 6.2], abs=0.25)
    assert all(segment.has_speech for segment in found) and found[-1].end == pytest.approx(15.1, abs=0.01)
    assert len(segments_of(talk, longest_s=4, rest_s=0.5)) > len(found)


def test_without_a_pause_pieces_still_fit_and_cover_everything(tmp_path: Path):
    found = segments_of(write(tmp_path / "a.wav", noise(21.3)), longest_s=2, everything=True)
    assert max(segment.end - segment.start for segment in found) <= 2
    assert min(segment.end - segment.start for segment in found[:-1]) >= 1
    assert (found[0].start, found[-1].end) == (0, 21.3)


@pytest.mark.parametrize("peak_db", [0, -40, -72])
@pytest.mark.parametrize("offset", [0.0, 0.05])
def test_speech_is_found_at_every_level(peak_db: int, offset: float, tmp_path: Path):
    """Two seconds and a half between rests of 4 s, at 24 bits; 0.4 s are kept around it."""
    speech = SPEECH[int(0.3 * HZ) : int(2.8 * HZ)]
    waveform = np.concatenate([np.zeros(4 * HZ), speech / np.abs(speech).max(), np.zeros(4 * HZ)])
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.9 * 10 ** (peak_db / 20) * waveform + offset, HZ, subtype="PCM_24")
    found = segments_of(path, longest_s=30)
    assert [segment.has_speech for segment in found] == [False, True, False]
    assert (found[1].start, found[1].end) == pytest.approx((3.6, 6.9), abs=0.25)
    assert (found[0].start, found[-1].end) == (0, 10.5)
    assert len(segments_of(path, longest_s=2)) == 4


def without_speech() -> dict[str, np.ndarray]:
    time = np.arange(6 * HZ) / HZ
    hum = sum(0.02 / n * np.sin(2 * np.pi * 50 * n * time) for n in (1, 2, 3, 5))
    chord = sum(0.1 * np.sin(2 * np.pi * hertz * time) * np.exp(-(time % 1.5)) for hertz in (220, 277.2, 329.6, 440))
    return {
        "silence": np.zeros(6 * HZ),
        "offset": np.full(6 * HZ, 0.05),
        "hum": hum,
        "chords": chord,
        "noise": 1e-3 * np.random.default_rng(0).standard_normal(6 * HZ),
    }


@pytest.mark.parametrize("name", without_speech())
def test_where_nobody_speaks_nothing_is_written_but_a_note(
    name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write(tmp_path / "a.wav", without_speech()[name])
    assert run(TRANSCRIBE, [str(tiny_model), str(path), "--language", "ko", "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["segments"] == [{"start": 0, "end": 6, "text": "", "note": "no speech"}]
    assert said.err == f"note: {path}: no speech in 6.0 of its 6.0 s\n"
    assert run(TRANSCRIBE, [str(tiny_model), str(path), "--language", "ko", "--everything"]) == 0
    assert "no speech" not in capsys.readouterr().err


def test_channels_that_cancel_are_heard_as_one(tmp_path: Path):
    for name, other in (("against", -SPEECH), ("with", SPEECH), ("silent", 0 * SPEECH)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([SPEECH, other], axis=1), HZ, subtype="FLOAT")
    one = load_waveform(tmp_path / "with.wav")
    assert load_waveform(tmp_path / "against.wav").equal(one)
    assert load_waveform(tmp_path / "silent.wav").equal(one / 2)
    assert sound_of(tmp_path / "against.wav").speech_F.equal(sound_of(tmp_path / "with.wav").speech_F)
    assert any(segment.has_speech for segment in segments_of(tmp_path / "against.wav", 30))


def test_blocks_are_judged_as_one_recording(tmp_path: Path):
    """Speech across the border of two blocks of 32 s."""
    path = write(tmp_path / "a.flac", np.zeros(int(30.5 * HZ)), SPEECH, np.zeros(4 * HZ))
    (_, speech, _) = found = segments_of(path, 30)
    assert speech.has_speech and (speech.start, speech.end) == pytest.approx((30.2, 34.1), abs=0.3)
    assert found[-1].end == pytest.approx(30.5 + len(SPEECH) / HZ + 4)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_heard_as_its_samples(ending: str, tiny_model: Path, tmp_path: Path):
    """The oracle: the transcriber of evaluations on the same file."""
    stereo = np.stack([noise(1.2), noise(1.2, seed=1)], axis=1)
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, stereo, 22_050)
    how = RecordingDecoding(language="ko", everything=True, temperatures=[0], no_speech=1)
    (heard,) = RecordingTranscriber(candidates([str(tiny_model)])[0], how)([path])
    transcriber = Transcriber(TorchWhisper(*read_model_folder(tiny_model)), language="ko")
    duration = soundfile.info(path).duration
    assert heard.text == transcriber.transcribe([Utterance("a", path, duration, "a", "ko", "ko")])[0]
    assert len(heard.segments) == 1


def test_a_recording_that_was_moved_is_transcribed_alike(tiny_model: Path, tmp_path: Path):
    """By sampling, which its name seeds."""
    (model,) = candidates([str(tiny_model)])
    how = RecordingDecoding(language="ko", everything=True, temperatures=[1], no_speech=1)
    one = write(tmp_path / "talk.wav", noise(2))
    (tmp_path / "there").mkdir()
    other, renamed = (write(tmp_path / "there" / name, noise(2)) for name in ("talk.wav", "other.wav"))
    here, moved, apart = (transcript.text for transcript in RecordingTranscriber(model, how)([one, other, renamed]))
    assert here == moved != apart


def test_a_piece_is_heard_alone(tiny_model: Path, tmp_path: Path):
    whole = np.concatenate([noise(1.5), np.zeros(8_000), noise(1.8, seed=1)])
    talk = write(tmp_path / "talk.flac", whole)
    transcriber = RecordingTranscriber(
        candidates([str(tiny_model)])[0], RecordingDecoding(language="ko", longest=2, batch_size=1, everything=True)
    )
    engine, heard = transcriber.transcriber.engine, []
    encode = engine.encode
    engine.encode = lambda waveforms_BS: heard.append(waveforms_BS[0]) or encode(waveforms_BS)
    (found,) = transcriber([talk])
    cuts = [(round(16_000 * segment.start), round(16_000 * segment.end)) for segment in found.segments]
    assert len(heard) == len(cuts) >= 2
    by_length = sorted(cuts, key=lambda cut: cut[0] - cut[1])  # as they are batched
    for waveform_S, (begin, end) in zip(heard, by_length, strict=True):
        np.testing.assert_allclose(waveform_S.numpy(), whole[begin:end], atol=1e-4)


def test_no_segment_is_longer_than_the_models_window(tiny_model: Path, tmp_path: Path):
    """It holds 2 s."""
    model, talk = candidates([str(tiny_model)])[0], write(tmp_path / "talk.wav", noise(5))
    (found,) = RecordingTranscriber(model, RecordingDecoding(language="ko", longest=10, everything=True))([talk])
    assert len(found.segments) >= 3 and all(segment.end - segment.start <= 2 for segment in found.segments)


def transcript() -> Transcript:
    parts = [Segment(0, 2.5), Segment(2.5, 3661.25), Segment(3661.25, 3662, has_speech=False), Segment(3662, 3663)]
    return Transcript(Path("talk.wav"), "mine", parts, list(map(Hypothesis, ["이번 project", "는 좋아", "", ""])))


def test_what_is_written():
    assert transcript().written("txt") == "이번 project 는 좋아\n"
    assert transcript().written("srt") == (
        "1\n00:00:00,000 --> 00:00:02,500\n이번 project\n\n2\n00:00:02,500 --> 01:01:01,250\n는 좋아\n"
    )
    found = json.loads(transcript().written("json"))
    assert found["segments"][1] == {"start": 2.5, "end": 3661.25, "text": "는 좋아"}
    assert [segment.get("note") for segment in found["segments"]] == [
        *(None, None, "no speech", "speech, but the model wrote nothing")
    ]
    assert list(transcript().notes()) == ["3662.0 to 3663.0 s: speech, but the model wrote nothing (mine)"]
    parts = [Hypothesis("これは"), Hypothesis("データ"), Hypothesis("project")]
    japanese = Transcript(Path("a"), "m", [Segment(0, 1)] * 3, parts)
    assert japanese.text == "これはデータ project"
    rounded = Transcript(Path("a"), "m", [Segment(0, 1.0006)], [Hypothesis("a")]).written("srt")
    assert rounded == "1\n00:00:00,000 --> 00:00:01,001\na\n"


def test_transcripts_never_overwrite_one_another(tiny_model: Path, tmp_path: Path):
    places = ("a/b_c.wav", "a_b/c.wav", "a/b/c.wav", "a/b/c.flac", "a_b_c.wav", "x/a_b_c.wav", "c-2.wav", "a/d.wav")
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / place, noise(0.3))
    for name, given in (("folder", [tmp_path / "a", tmp_path]), ("files", [tmp_path / place for place in places])):
        out = tmp_path.parent / f"{tmp_path.name}-{name}"
        assert run(TRANSCRIBE, [str(tiny_model), *map(str, given), "--out", str(out), "--format", "json"]) == 0
        told = [Path(json.loads(file.read_text())["file"]) for file in out.iterdir()]
        assert sorted(told) == sorted(tmp_path / place for place in places)
        assert {"d.json", "c-2.json"} <= {file.name for file in out.iterdir()}


def test_names_of_models_lead_nowhere(tiny_model: Path, tmp_path: Path):
    write(tmp_path / "a.wav", noise(0.3))
    given = [
        f"../../x={tiny_model}",
        str(tmp_path / "a.wav"),
        "--beside",
        f"y={tiny_model}",
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(UserError, match=r"a model: '\.\./\.\./x' cannot name a file or folder"):
        run(TRANSCRIBE, given)


def test_the_choice_of_a_language_is_written(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The oracle: the engine's own probabilities, of the choices alone; `among-pair` chooses among the pair's."""
    path = write(tmp_path / "a.wav", SPEECH[:32_000])
    engine = TorchWhisper(*read_model_folder(tiny_model))
    (chances,) = engine.detect(engine.encode(torch.from_numpy(SPEECH[None, :32_000]).float()))
    assert sum(chances.values()) == pytest.approx(1)
    for options in (["--languages", "ja", "de"], ["--pair", "ja-de", "--language", "among-pair"]):
        assert run(TRANSCRIBE, [str(tiny_model), str(path), *options, "--format", "json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["segments"]
        best = max("ja", "de", key=chances.__getitem__)
        assert found["language"] == best
        expected = chances[best] / (chances["ja"] + chances["de"])
        assert 0.5 <= found["language_probability"] == pytest.approx(expected, abs=1e-3)
    short = ["--tokens-per-second", "12"]  # a random model writes more than two seconds can hold
    assert run(TRANSCRIBE, [str(tiny_model), str(path), "--pair", "ko-en", "--format", "json", *short]) == 0
    (found,) = json.loads(capsys.readouterr().out)["segments"]
    assert found["language"] == "ko" and "language_probability" not in found
    words = found.get("words", [])
    borders = [0.0, *(time for word in words for time in (word["start"], word["end"])), 2.0]
    assert borders == sorted(borders) and all(0 <= word["probability"] <= 1 for word in words)
    assert "".join(word["text"] for word in words) == "".join(found["text"].split())


def test_what_was_said_before_and_words_to_expect_go_before_the_prompt(tiny_model: Path, tmp_path: Path):
    """The file's words, then the prompt; of a long text the last 223 tokens; nothing for nothing."""
    words = tmp_path / "words.txt"
    words.write_text("Kerstin\n\n스카이다이빙\n", encoding="utf-8")
    how = RecordingDecoding(language="ko", prompt=" 이번 project ", hotwords=words)
    assert how.context == "Kerstin, 스카이다이빙 이번 project"
    transcriber = RecordingTranscriber(candidates([str(tiny_model)])[0], how).transcriber
    tokenizer, prompts = transcriber.engine.tokenizer, []
    generate = transcriber.engine.generate
    transcriber.engine.generate = lambda encoded, attempt: (
        prompts.extend(attempt.prompt_BU) or generate(encoded, attempt)
    )
    path = write(tmp_path / "a.wav", SPEECH[:HZ])
    transcriber.transcribe([Utterance("a", path, 1.0, "a", "ko", "ko")])
    said = tokenizer.decode(prompts[0])
    assert said == f"<|startofprev|> {how.context}<|startoftranscript|><|ko|><|transcribe|><|notimestamps|>"
    assert len(context_ids(tokenizer, "ab " * 300)) == 224 and context_ids(tokenizer, " ") == []
    assert RecordingDecoding().context == ""


def test_the_most_probable_language_is_one_of_the_choices():
    chances = {"en": 0.6, "ko": 0.3, "ja": 0.1}
    assert most_probable(chances) == ("en", pytest.approx(0.6))
    assert most_probable(chances, ("ja", "ko")) == ("ko", pytest.approx(0.75))
    with pytest.raises(UserError, match="does not detect the language 'de': its .* lists en, ko, ja$"):
        most_probable(chances, ("ko", "de"))


def test_folders_models_and_formats(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "in/deep").mkdir(parents=True)
    for place in ("in/a.wav", "in/deep/b.flac"):
        write(tmp_path / place, SPEECH)
    (tmp_path / "in/notes.txt").write_text("no sound")
    out = tmp_path / "out"
    given = [f"one={tiny_model}", str(tmp_path / "in"), "--beside", f"two={tiny_model}", "--pair", "ko-en", *GREEDY]
    forms = ["txt", "srt", "vtt", "json"]
    assert run(TRANSCRIBE, [*given, "--language", "two_tag", "--out", str(out), "--format", *forms]) == 0
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert names == [f"{m}/{n}.{f}" for m in ("one", "two") for n in "ab" for f in ("json", "srt", "txt", "vtt")]
    assert "2 of 2 recordings transcribed" in capsys.readouterr().out
    alone = [str(tiny_model), str(tmp_path / "in/a.wav"), "--pair", "ko-en", "--language", "two_tag", *GREEDY]
    assert run(TRANSCRIBE, alone) == 0
    assert capsys.readouterr().out == (out / "one/a.txt").read_text()


def test_one_that_cannot_be_read_does_not_end_the_others(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write(tmp_path / "a.wav", noise(0.3))
    (tmp_path / "b.wav").write_bytes(b"nothing")
    write(tmp_path / "c.wav", np.zeros(0))
    write(tmp_path / "d.wav", noise(0.3))
    (tmp_path / "my memo.m4a").write_bytes(b"\0\0\0\x1cftypM4A \0\0\2\0")
    (tmp_path / "sent.wav").write_bytes(b"\xff\xf1\x50\x40\x03\x9f\xfc\xde")
    assert run(TRANSCRIBE, [str(tiny_model), str(tmp_path), "--out", str(tmp_path / "out"), "--language", "ko"]) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "d.txt"]
    found = capsys.readouterr()
    assert "b.wav: the audio cannot be read" in found.err and "c.wav: the file holds no audio" in found.err
    assert "my memo.m4a: the audio cannot be read: it is AAC or other sound in an MP4 container" in found.err
    assert "convert it: ffmpeg -i 'my memo.m4a' 'my memo.wav'" in found.err
    assert "it is AAC; convert it: ffmpeg -i sent.wav sent-converted.wav" in found.err
    assert "2 of 6 recordings transcribed" in found.out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "name sound files or folders after the model"),
        (["nowhere.wav"], r"nowhere\.wav: no such file"),
        (["a.wav", "--language", "matrix"], "--language matrix asks for --pair"),
        (["a.wav", "--language", "xx"], "language 'xx' has no tag"),
        (["a.wav", "--languages", "ko", "xx"], "language 'xx' has no tag"),
        (["a.wav", "--languages", "ko", "--language", "ko"], "leave out --pair and --language"),
        (["a.wav", "--languages", "ko", "--pair", "ko-en"], "leave out --pair and --language"),
        (["a.wav", "--language", "among-pair"], "--language among-pair asks for --pair"),
        (["a.wav", "--language", "likeliest"], "--language likeliest asks for --pair"),
        (["a.wav", "--longest", "0"], "longest is 0.*, expected a number of 1 or more"),
        (["a.wav", "--beams", "0"], r"beams is 0, expected a whole number in \[1, 100\]"),
        (["a.wav", "--beams", "2", "--compile"], "--compile compiles the greedy step"),
        (["a.wav", "--hotwords", "nowhere.txt"], "nowhere.txt: no such file"),
        (["a.wav", "--format", "txt", "srt"], "several formats need --out"),
        (["a.wav", "--gradio"], "takes no files"),
        (["a.wav", "--device", "tpu"], "no device is called 'tpu'"),
        (["a.wav", "--device", "cuda:99"], r"--device cuda:99: PyTorch finds \d+ GPUs"),
    ],
)
def test_mistakes_are_answered(
    extra: list[str], message: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav", noise(0.3))
    with pytest.raises(UserError, match=message):
        run(TRANSCRIBE, [str(tiny_model), *extra])


def test_the_command_prints_what_it_heard(tiny_model: Path, tmp_path: Path):
    write(tmp_path / "a.wav", SPEECH)
    command = [sys.executable, "evaluate.py", "transcribe", str(tiny_model), str(tmp_path / "a.wav")]
    found = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["segments"][-1]["end"] == 3.372
    assert not re.search("\x1b", found.stdout + found.stderr)  # no colours where nobody looks


def test_the_page_hears_what_the_command_hears(tiny_model: Path, tmp_path: Path):
    pytest.importorskip("gradio")
    from decoding.microphone_page import page

    (tmp_path / "page/upload").mkdir(parents=True)
    path, same = (write(tmp_path / name, noise(1)) for name in ("page/upload/a.wav", "a.wav"))
    models = candidates([f"one={tiny_model}", f"two={tiny_model}"])
    transcribers = [
        RecordingTranscriber(model, RecordingDecoding(language="ko", everything=True, temperatures=[0]))
        for model in models
    ]
    demo = page(transcribers, tmp_path / "page")
    (handler,) = [function for function in demo.fns.values() if function.fn.__name__ == "transcribed"]
    _, *views = handler.fn(str(path), "ko")
    (expected,) = transcribers[0]([same])
    assert all(f"<p>{html(expected.text)}</p>" in view for view in views) and len(views) == 2
    assert "<h3>one: 1.0 s of speech in" in views[0]


def test_without_gradio_it_is_said(monkeypatch: pytest.MonkeyPatch):
    from decoding.microphone_page import page

    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"needs gradio .*pip install -e '\.\[gradio\]'"):
        page([], Path())

"""Words with their times and languages: attention by transformers' own, paths by brute force, borders by hand."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from backbone import token_times as module
from backbone.model_folder.read import read_model_folder
from backbone.token_times import TokenTimes, monotone_path, token_times
from decoding.segments import Segment
from decoding.transcriber import Hypothesis
from decoding.transcript import Transcript
from decoding.transcript_view import transcript_view
from decoding.word_languages import word_languages
from decoding.words import TimedWord, timed_words, word_places

SETS = Path(__file__).parent.parent / "corpora/speak/sentence_sets"


def test_the_monotone_path_is_the_best_of_all():
    """Against every path there is, by brute force."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((1, 4), (3, 3), (2, 6), (4, 7)):
        gains = torch.randn(rows, columns, generator=generator)
        every = [
            path
            for path in itertools.product(range(rows), repeat=columns)
            if path[0] == 0 and path[-1] == rows - 1 and all(0 <= b - a <= 1 for a, b in itertools.pairwise(path))
        ]
        best = max(every, key=lambda path: sum(gains[row, column] for column, row in enumerate(path)))
        assert monotone_path(gains).tolist() == list(best)
    with pytest.raises(ValueError, match="3 rows in 2 columns"):
        monotone_path(torch.zeros(3, 2))


def test_attention_is_that_of_the_last_layer_in_transformers(tiny_model: Path):
    model = read_model_folder(tiny_model)[0].eval()
    encoded_BTD = torch.randn(2, 100, 16, generator=torch.Generator().manual_seed(0))
    tokens_BU = torch.randint(0, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), module._attention(model, encoded_BTD) as caught:
        model.model.decoder(input_ids=tokens_BU, encoder_hidden_states=encoded_BTD)
    model.set_attn_implementation("eager")
    given = {"encoder_outputs": BaseModelOutput(encoded_BTD), "decoder_input_ids": tokens_BU}
    expected = model(**given, output_attentions=True).cross_attentions[-1]
    torch.testing.assert_close(caught, [expected], atol=1e-5, rtol=1e-4)


def test_tokens_lie_where_they_are_attended_to(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """Three tokens at positions 0-9, 10-24, 25-39 and the end from 40 to 49; neither padding nor prompt counts."""
    model, processor = read_model_folder(tiny_model)
    attention_BHUT = torch.full((2, 2, 7, 100), 1e-3)
    for row, (begin, end) in enumerate(itertools.pairwise((0, 10, 25, 40, 50))):
        attention_BHUT[0, :, 3 + row, begin:end] = 0.5
    attention_BHUT[0, :, :3, 60:] = 0.9

    @contextmanager
    def fixed(*_: object):
        yield [attention_BHUT]

    monkeypatch.setattr(module, "_attention", fixed)
    text = processor.tokenizer.encode("xyz", add_special_tokens=False)
    assert len(text) == 3
    prompts, texts, durations_s = [[255] * 4] * 2, [text, []], [1.0, 1.0]
    found, nothing = token_times(
        model.eval(), processor.tokenizer, torch.zeros(2, 100, 16), prompts, texts, durations_s
    )
    assert nothing is None
    assert found.borders_s == [0, 0.22, 0.52, 0.82] and found.characters == [0, 1, 2, 3]
    assert found.attention == pytest.approx([5.0, 7.5, 7.5, 5.0])
    given = {"encoder_outputs": BaseModelOutput(torch.zeros(1, 100, 16)), "decoder_input_ids": [[255] * 4 + text]}
    given["decoder_input_ids"] = torch.tensor(given["decoder_input_ids"])
    chances_UV = model(**given).logits[0, 3:6].softmax(-1)
    assert found.probabilities == pytest.approx(chances_UV[range(3), text].tolist(), rel=1e-3)
    short = token_times(model, processor.tokenizer, torch.zeros(2, 100, 16), prompts, texts, [0.06, 0.06])
    assert short == [None, None]


def test_times_of_characters():
    """The first character has two tokens, the third token three characters."""
    times = TokenTimes([0, 0, 1, 4], [0.0, 0.2, 0.4, 1.0], [0.5, 0.9, 0.8], [1, 1, 1, 1])
    assert [times.at(place) for place in range(5)] == pytest.approx([0.0, 0.4, 0.6, 0.8, 1.0])
    assert [times.tokens(*place) for place in ((0, 1), (1, 4), (2, 3), (0, 4))] == [
        slice(0, 2),
        slice(2, 3),
        slice(2, 3),
        slice(0, 3),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("이번 project는 좋아.", ["이번", "project", "는", "좋아."]),
        (" COVID-19는 끝났다", ["COVID-19", "는", "끝났다"]),
        ("3개를 샀다", ["3개를", "샀다"]),
        ("データをcheckした。", ["データ", "を", "check", "した。"]),
        ("Das Meeting, bitte!", ["Das", "Meeting,", "bitte!"]),
        ("会議のminutesは誰が", ["会議", "の", "minutes", "は", "誰", "が"]),
        ("  ", []),
    ],
)
def test_words_end_at_spaces_scripts_and_borders_of_japanese(text: str, words: list[str]):
    assert [text[begin:end] for begin, end in word_places(text)] == words


def test_words_take_their_times_from_tokens():
    """Tokens `이번`, ` project`, `는`; speech begins at 0.1 and ends at 1.4 s."""
    times = TokenTimes([0, 2, 10, 11], [0.0, 0.5, 1.0, 1.5], [0.5, 0.75, 1.0], [1, 1, 1, 1])
    found = timed_words("이번 project는", times, (0.1, 1.4), ("ko", "en"))
    assert found == (
        TimedWord(0.1, 0.5, "이번", "ko", 0.5),
        TimedWord(0.5, 1.0, "project", "en", 0.75),
        TimedWord(1.0, 1.4, "는", "ko", 1.0),
    )
    assert timed_words(" ", times, (0.1, 1.4), ("ko", "en")) == ()


def test_languages_by_script_and_by_neighbours():
    assert word_languages(["이번", "3", "project", "2", "plan"], ("ko", "en")) == ["ko", "ko", "en", "en", "en"]
    assert word_languages(["Das", "Meeting", "war", "out", "of", "control"], ("de", "en"))[-3:] == ["en"] * 3
    assert word_languages(["le", "chat"], ("fr", "en")) == ["fr", "fr"]  # nothing tells them apart
    assert word_languages(["12", "!"], ("ja", "en")) == ["ja", "ja"] and word_languages([], ("ko",)) == []


def test_german_and_english_words_are_told_apart():
    """On the sentences that were not counted, the other language of a pair first in turn."""
    right = words = 0
    for line in (SETS / "de-en.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == "train":
            continue
        text = "".join(part for _, part in row["spans"])
        owners = [language for language, part in row["spans"] for _ in part]
        places = [place for place in word_places(text) if any(map(str.isalpha, text[slice(*place)]))]
        expected = [Counter(owners[slice(*place)]).most_common(1)[0][0] for place in places]
        found = word_languages([text[slice(*place)] for place in places], ("de", "en"))
        right += sum(a == b for a, b in zip(found, expected, strict=True))
        words += len(places)
    assert words > 1_000 and right / words > 0.96


def test_subtitles_hold_times_and_languages():
    words = (
        TimedWord(1.0, 1.5, "이번", "ko", 0.9),
        TimedWord(1.5, 2.25, "R&D", "en", 0.8),
        TimedWord(2.25, 2.5, "는", "ko", 0.7),
    )
    parts = [Segment(0, 3), Segment(3, 4, has_speech=False), Segment(4, 5)]
    hypotheses = [Hypothesis("이번 R&D는", languages=("ko",), words=words), Hypothesis(""), Hypothesis("a < b")]
    found = Transcript(Path("a.wav"), "m", parts, hypotheses)
    assert found.written("vtt") == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n"
        "<lang ko>이번</lang> <lang en><00:00:01.500>R&amp;D</lang><lang ko><00:00:02.250>는</lang>\n"
        "\n00:00:04.000 --> 00:00:05.000\na &lt; b\n"
    )
    assert found.written("srt").startswith("1\n00:00:01,000 --> 00:00:02,500\n이번 R&D는\n\n2\n00:00:04,000")
    assert json.loads(found.written("json"))["segments"][0]["words"][1] == {
        "start": 1.5,
        "end": 2.25,
        "text": "R&D",
        "language": "en",
        "probability": 0.8,
    }


def test_the_view_marks_languages_and_lets_no_markup_in():
    words = (TimedWord(0.0, 0.5, "이번", "ko", 0.9), TimedWord(0.5, 1.25, "<b>&", "en", 0.8))
    found = Transcript(Path('a"b.wav'), "m", [Segment(0, 2)], [Hypothesis("이번 <b>&", words=words)])
    view = transcript_view(found, "<i>m</i>")
    assert '<span lang="ko" class="language-0"><span title="0.00 to 0.50 s">이번</span></span>' in view
    assert (
        '</span> <span lang="en" class="language-1"><span title="0.50 to 1.25 s">&lt;b&gt;&amp;</span></span>' in view
    )
    assert "<b>" not in view and "<i>" not in view and 'download="a&quot;b.srt"' in view
    (srt,) = re.findall(r'b\.srt" href="data:text/plain;charset=utf-8;base64,([^"]+)"', view)
    assert base64.b64decode(srt).decode() == found.written("srt")
    assert "<p>a &lt; b</p>" in transcript_view(Transcript(Path("a"), "m", [Segment(0, 1)], [Hypothesis("a < b")]), "m")

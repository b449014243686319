"""Cross-pair splicing: text, spans and sound agree sample by sample; the same for a seed, on resuming, over ranks."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from transformers import WhisperProcessor

import prepare as prepare_script
from common.audio import load_waveform
from common.errors import UserError
from common.manifest import Span, Utterance, read_manifest
from common.options import run
from datamodules.pairs import PairDataModule
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splicer import CrossPairSplicer
from datamodules.splicing.stretches import jittered
from tests.splicing_corpora import rewrite, write_pairs
from tests.test_mixtures import content, fit
from training.training_run import TrainingRun

HZ = 16_000


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, str]:
    return write_pairs(tmp_path / "data")


def splicer(corpora: dict[str, str], model: Path, window_s: float = 10.0, tokens: int = 128, **options: Any):
    training = {pair: read_manifest(path) for pair, path in corpora.items()}
    tokenizer = WhisperProcessor.from_pretrained(model).tokenizer
    options = {"share": 1.0, "crossfade_s": 0.0, "loudness": False} | options
    return CrossPairSplicer(Splicing(**options), training, None, tokenizer, window_s, tokens), training


def find(splice: CrossPairSplicer, utterance: Utterance, text: str) -> tuple[Utterance, Tensor]:
    """The spliced utterance of a text, under the first seed that gives it."""
    for seed in range(500):
        if splice.plan(utterance.pair, utterance, seed).utterance.text == text:
            return splice(utterance.pair, utterance, seed)[0]
    raise AssertionError(f"no seed of 500 says {text}")


def samples(utterance: Utterance, start_s: float, end_s: float) -> Tensor:
    return load_waveform(utterance.audio)[round(start_s * HZ) : round(end_s * HZ)]


# What is said and what sounds


def test_a_host_keeps_its_language_and_takes_inserts_of_another_pair(corpora: dict[str, str], tiny_model: Path):
    """새 report를 봤어요. keeps its Korean, silences and all, around the Japanese of 私はmeetingに行く。"""
    splice, training = splicer(corpora, tiny_model)
    host, source = training["ko-en"][0], training["ja-en"][0]
    spliced, waveform = find(splice, host, "새 に行く를 봤어요.")
    expected = [samples(host, 0, 0.3), samples(source, 0.8, 1.3), samples(host, 0.65, 1.2)]
    assert torch.equal(waveform, torch.cat(expected))
    assert spliced.pair == "ko-ja" and spliced.matrix_language == "ko" and spliced.languages == ("ko", "ja")
    assert spliced.spans == (
        Span("ko", 0.1, 0.3, "새"),
        Span("ja", 0.3, 0.8, "に行く"),
        Span("ko", 0.8, 1.25, "를 봤어요."),
    )
    assert spliced.duration == 1.35 == len(waveform) / HZ
    assert spliced.id == "ko-en-0+ja-en-0" and spliced.licence == "CC0-1.0; CC-BY-4.0"


def test_an_insert_at_the_begin_leaves_the_host_its_silence(corpora: dict[str, str], tiny_model: Path):
    """No problem. 내일 만나요. takes the full stop of what it loses, in Japanese."""
    splice, training = splicer(corpora, tiny_model)
    host, source = training["ko-en"][1], training["ja-en"][1]
    spliced, waveform = find(splice, host, "新しい。 내일 만나요.")
    expected = [samples(host, 0, 0.1), samples(source, 0.1, 0.45), samples(host, 0.5, 1.1)]
    assert torch.equal(waveform, torch.cat(expected))
    assert spliced.spans == (Span("ja", 0.1, 0.45, "新しい。"), Span("ko", 0.45, 0.95, "내일 만나요."))


def test_an_utterance_in_one_language_gives_up_a_run_of_its_words(corpora: dict[str, str], tiny_model: Path):
    """새 책을 봤어요., whose words have times, keeps some of them, and all its silence."""
    splice, training = splicer(corpora, tiny_model)
    words = (Span("ko", 0.1, 0.3, "새"), Span("ko", 0.3, 0.65, "책을"), Span("ko", 0.7, 1.1, "봤어요."))
    host = replace(training["ko-en"][0], pair="ko", text="새 책을 봤어요.", spans=words)
    source = training["ja-en"][0]
    spliced, waveform = find(splice, host, "새 に行く 봤어요.")
    expected = [samples(host, 0, 0.3), samples(source, 0.8, 1.3), samples(host, 0.65, 1.2)]
    assert torch.equal(waveform, torch.cat(expected))
    assert spliced.pair == "ko-ja" and spliced.matrix_language == "ko"
    plans = [splice.plan("ko", host, seed) for seed in range(300)]
    kept = {tuple(span.text for span in plan.utterance.spans if span.language == "ko") for plan in plans}
    assert kept == {("새",), ("봤어요.",), ("새 책을",), ("책을 봤어요.",), ("새", "봤어요.")}
    whole = replace(host, spans=(Span("ko", 0.1, 1.1, host.text),))
    words = (words[0], Span("ko", 0.3, 0.5, "책"), Span("ko", 0.5, 0.65, "을"), words[2])
    bound = [splice.plan("ko", replace(host, spans=words), seed).utterance for seed in range(300)]
    assert "새 に行く을 봤어요." in {spliced.text for spliced in bound}  # a particle stays glued, and begins no run
    assert not any("책 " in spliced.text or "책に" in spliced.text for spliced in bound)
    assert splice.plan("ko", whole, 0) is None


KOREAN = [("새", 0.1, 0.3), ("책을", 0.3, 0.5), ("오늘", 0.5, 0.65), ("봤어요.", 0.7, 1.1)]
JAPANESE = [("今日", 0.1, 0.3), ("は", 0.3, 0.4), ("新しい本を", 0.4, 0.8), ("見た。", 0.8, 1.2)]
BOOK = {
    "id": "1", "ko": [["1", "새 책을"], ["", " "], ["2", "오늘"], ["", " 봤어요."]],
    "ja": [["2", "今日"], ["", "は"], ["1", "新しい本を"], ["", "見た。"]],
}  # fmt: skip


def side_by_side(corpora: dict[str, str], model: Path, file: Path, rows: list[dict], **words: list[tuple]):
    """A splicer of Korean and Japanese utterances with such words, and these."""
    file.write_text("\n".join(json.dumps(row) for row in rows))
    spoken = {}
    for language, said in words.items():
        spans = tuple(Span(language, begin, end, text) for text, begin, end in said)
        text = ("" if language == "ja" else " ").join(span.text for span in spans)
        spoken[language] = replace(read_manifest(corpora[f"{language}-en"])[0], pair=language, text=text, spans=spans)
    options = Splicing(share=1.0, crossfade_s=0, loudness=False, pattern="parallel", phrases=str(file))
    tokenizer = WhisperProcessor.from_pretrained(model).tokenizer
    return CrossPairSplicer(options, {pair: [one] for pair, one in spoken.items()}, None, tokenizer, 10.0, 128), spoken


def said(splice: CrossPairSplicer, host: Utterance) -> set[str]:
    return {splice.plan(host.pair, host, seed).utterance.text for seed in range(60)}


def test_a_phrase_gives_way_to_its_translation(corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    """새 책을 오늘 봤어요. and 今日は新しい本を見た。 say the same: I saw a new book today."""
    splice, spoken = side_by_side(corpora, tiny_model, tmp_path / "book.jsonl", [BOOK], ko=KOREAN, ja=JAPANESE)
    assert said(splice, spoken["ko"]) == {"新しい本を 오늘 봤어요.", "새 책을 今日 봤어요.", "新しい本を今日 봤어요."}
    assert said(splice, spoken["ja"]) == {"今日は새 책을見た。", "오늘は新しい本を見た。", "오늘は새 책을見た。"}
    host, source = spoken["ko"], spoken["ja"]
    spliced, waveform = find(splice, host, "新しい本を今日 봤어요.")
    expected = [
        samples(host, 0, 0.1), samples(source, 0.4, 0.8), samples(source, 0.1, 0.3), samples(host, 0.65, host.duration)
    ]  # fmt: skip
    assert torch.equal(waveform, torch.cat(expected))
    assert spliced.pair == "ko-ja" and spliced.matrix_language == "ko"
    assert spliced.spans == (
        Span("ja", 0.1, 0.5, "新しい本を"), Span("ja", 0.5, 0.7, "今日"), Span("ko", 0.75, 1.15, "봤어요.")
    )  # fmt: skip


def test_a_word_of_the_host_stays_and_phrases_end_with_words(corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    """Where phrases are all that is said, one of them stays; half a word is not replaced; others go as hosts do."""
    whole = {"ko": [["1", "새 책을"], ["", " "], ["2", "오늘 봤어요."]], "ja": [["1", "新しい本を"], ["2", "見た。"]]}
    words = {"ko": KOREAN, "ja": JAPANESE[2:]}
    splice, spoken = side_by_side(corpora, tiny_model, tmp_path / "whole.jsonl", [whole], **words)
    assert said(splice, spoken["ko"]) == {"新しい本を 오늘 봤어요.", "새 책을 見た。"}  # its own full stop
    noun = {"ko": [["", " 새 "], ["1", "책"], ["", "을 "], ["2", "오늘"], ["", " 봤어요."]], "ja": BOOK["ja"]}
    splice, spoken = side_by_side(corpora, tiny_model, tmp_path / "noun.jsonl", [noun], ko=KOREAN, ja=JAPANESE)
    assert said(splice, spoken["ko"]) == {"새 책을 今日 봤어요."}
    other = replace(spoken["ko"], text="책을 오늘 봤어요.", spans=spoken["ko"].spans[1:])
    assert len(said(splice, other)) > 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ko": [["1", "안녕"]]}, "data.splice.phrases: no utterance of ko, ja says a sentence of .*odd.jsonl"),
        ({"ko": ["안녕"]}, "odd.jsonl:1: 'ko' must be a list of \\[number, text\\], found '안녕'"),
    ],
)
def test_phrases_that_nobody_says(corpora: dict[str, str], tiny_model: Path, tmp_path: Path, row: dict, message: str):
    with pytest.raises(UserError, match=message):
        side_by_side(corpora, tiny_model, tmp_path / "odd.jsonl", [row], ko=KOREAN, ja=JAPANESE)


def test_a_japanese_host_has_no_spaces_and_a_german_one_has(corpora: dict[str, str], tiny_model: Path):
    splice, training = splicer(corpora, tiny_model)
    assert find(splice, training["ja-en"][0], "私はIch habe dasに行く。")[0].matrix_language == "ja"
    assert find(splice, training["de-en"][0], "Ich habe das 新しい verpasst.")[0].matrix_language == "de"
    assert find(splice, training["de-en"][0], "Ich habe das를 봤어요 verpasst.")[0].pair == "ko-de"


def test_each_hearing_agrees_with_itself(corpora: dict[str, str], tiny_model: Path):
    """Whatever is drawn: the spans make up the text, and the sound at each span is that of the span it comes from."""
    for pattern in ("host", "chain"):
        splice, training = splicer(corpora, tiny_model, pattern=pattern, gap_s=0.02)
        by_text = {
            span.text.rstrip(".。"): (utterance, span)
            for utterances in training.values()
            for utterance in utterances
            for span in utterance.spans
        }
        pairs = Counter()
        for seed in range(60):
            for pair, utterances in training.items():
                (spliced, waveform), _ = splice(pair, utterances[seed % 2], seed)
                pairs[spliced.pair] += 1
                assert {span.language for span in spliced.spans} == set(spliced.languages)
                assert "".join(span.text for span in spliced.spans) == spliced.text.replace(" ", "") or all(
                    span.text in spliced.text for span in spliced.spans
                )
                for span in spliced.spans:
                    utterance, source = by_text[span.text.rstrip(".。")]
                    assert source.language == span.language
                    heard = waveform[round(span.start * HZ) : round(span.end * HZ)]
                    assert torch.equal(heard, samples(utterance, source.start, source.end))
        assert set(pairs) == {"ko-ja", "ko-de", "ja-de"} and min(pairs.values()) > 30


def test_a_moved_border_is_where_the_sound_is_cut(corpora: dict[str, str], tiny_model: Path):
    """새 [report]를 봤어요. with borders moved by up to 50 ms: the host is cut there, and the Japanese at its own."""
    splice, training = splicer(corpora, tiny_model, jitter_s=0.05)
    host, source = (jittered(training[pair][0], 0.05) for pair in ("ko-en", "ja-en"))
    assert all(a.start != b.start for a, b in zip(host.spans, training["ko-en"][0].spans, strict=True))
    _, waveform = find(splice, training["ko-en"][0], "새 に行く를 봤어요.")
    (_, report, _), (_, _, iku) = host.spans, source.spans
    pieces = [samples(host, 0, report.start), samples(source, iku.start, iku.end), samples(host, report.end, 1.2)]
    assert torch.equal(waveform, torch.cat(pieces))


def test_a_chain_joins_spans_in_turn(corpora: dict[str, str], tiny_model: Path):
    splice, training = splicer(corpora, tiny_model, pattern="chain", spans=(3, 3), pairs=["ko-ja"])
    counts = Counter()
    for seed in range(40):
        spliced = splice.plan("ko-en", training["ko-en"][0], seed).utterance
        languages = [span.language for span in spliced.spans]
        assert languages in (["ko", "ja", "ko"], ["ja", "ko", "ja"])
        assert any(span.text in ("새", "를 봤어요") for span in spliced.spans if span.language == "ko")
        seconds = Counter()
        for span in spliced.spans:
            seconds[span.language] += span.end - span.start
        assert spliced.matrix_language == seconds.most_common(1)[0][0]
        counts[languages[0]] += 1
    assert min(counts.values()) > 8


def test_spans_fade_into_each_other(corpora: dict[str, str], tiny_model: Path):
    """10 ms: 80 samples beyond each border; all else is the sources', and the joint is their weighted sum."""
    splice, training = splicer(corpora, tiny_model, crossfade_s=0.01)
    host, source = training["ko-en"][0], training["ja-en"][0]
    _, waveform = find(splice, host, "새 に行く를 봤어요.")
    joint, fade = round(0.3 * HZ), 80
    assert torch.equal(waveform[: joint - fade], samples(host, 0, 0.3 - 0.005))
    assert torch.equal(waveform[joint + fade : joint + 8_000 - fade], samples(source, 0.805, 1.295))
    rise = (torch.arange(160) + 0.5) / 160
    expected = samples(host, 0.295, 0.305) * (1 - rise) + samples(source, 0.795, 0.805) * rise
    torch.testing.assert_close(waveform[joint - fade : joint + fade], expected, atol=1e-7, rtol=0)


def test_an_inserted_span_is_as_loud_as_its_host(corpora: dict[str, str], tiny_model: Path):
    """The corpora's levels are 0.1 and 0.05; the host is untouched, the gain at most 12 dB."""
    splice, training = splicer(corpora, tiny_model, loudness=True)
    host, source = training["ko-en"][0], training["ja-en"][0]
    _, waveform = find(splice, host, "새 に行く를 봤어요.")
    kept = torch.cat([samples(host, 0, 0.3), samples(host, 0.65, 1.2)])
    assert torch.equal(torch.cat([waveform[:4_800], waveform[12_800:]]), kept)
    inserted, original = waveform[4_800:12_800], samples(source, 0.8, 1.3)
    assert float(inserted.square().mean() / kept.square().mean()) == pytest.approx(1, rel=1e-5)
    gain = float(inserted[0] / original[0])
    assert 1.9 < gain < 2.1
    torch.testing.assert_close(inserted, gain * original, atol=1e-6, rtol=0)


# The same again


def test_a_hearing_follows_from_its_seed(corpora: dict[str, str], tiny_model: Path):
    def heard(seeds: Any) -> dict[int, tuple[Utterance, list[float]]]:
        splice, training = splicer(corpora, tiny_model, crossfade_s=0.01, loudness=True)
        found = {seed: splice("de-en", training["de-en"][0], seed)[0] for seed in seeds}
        return {seed: (utterance, waveform.tolist()) for seed, (utterance, waveform) in found.items()}

    once, again = heard(range(20)), heard(reversed(range(20)))
    assert once == again
    assert len({utterance.text for utterance, _ in once.values()}) > 5


def test_half_of_the_hearings_are_spliced(corpora: dict[str, str], tiny_model: Path):
    splice, training = splicer(corpora, tiny_model, share={"ko-en": 0.5, "ja-en": 1.0})
    shares = {
        pair: sum(splice.plan(pair, utterances[0], seed) is not None for seed in range(1000)) / 1000
        for pair, utterances in training.items()
    }
    assert shares["ja-en"] == 1 and shares["de-en"] == 0
    assert shares["ko-en"] == pytest.approx(0.5, abs=0.05)  # three standard deviations


def data(corpora: dict[str, str], **options: Any) -> PairDataModule:
    splice = options.pop("splice", Splicing(share=0.7))
    return PairDataModule(corpora, **({"utterances_per_pair": 2, "workers": 0, "splice": splice} | options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_hears_the_same(workers: int, tiny_model: Path, tmp_path: Path):
    corpora = write_pairs(tmp_path / "data", copies=3)
    whole = fit(data(corpora), tiny_model, tmp_path / "whole").steps
    steps = fit(data(corpora, workers=workers), tiny_model, tmp_path / "half", steps=3).steps
    saved = tmp_path / "half" / "saved.ckpt"
    steps += fit(data(corpora, workers=workers), tiny_model, tmp_path / "half", resume=saved).steps
    assert len(steps) == 7 and steps == whole
    assert [[row[0] for row in step] for step in steps] == [["ko-en"] * 2 + ["ja-en"] * 2 + ["de-en"] * 2] * 7
    assert {"+" in row[1] for step in steps for row in step} == {True, False}


def test_two_ranks_hear_together_what_one_would(tiny_model: Path, tmp_path: Path):
    """And never the same host twice in a cycle: no two ranks make the same utterance."""
    corpora = write_pairs(tmp_path / "data", copies=4)
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer

    def loaded(k: int, rank: int, world_size: int) -> list[list[Any]]:
        module = data(corpora, utterances_per_pair=k)
        module.read(tokenizer, window_s=10.0, max_tokens=128)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        module.trainer = SimpleNamespace(
            max_steps=2, global_step=0, global_rank=rank, world_size=world_size, strategy=device
        )
        return [[(*row[:4], [t for t in row[4] if t >= 0]) for row in content(b)] for b in module.train_dataloader()]

    ranks = [loaded(2, rank, 2) for rank in (0, 1)]
    for step, whole in enumerate(loaded(4, 0, 1)):
        for pair in corpora:
            assert [row for rank in ranks for row in rank[step] if row[0] == pair] == [r for r in whole if r[0] == pair]
    hosts = [row[1].split("+")[0] for rank in ranks for step in rank for row in step]
    assert len(hosts) == len(set(hosts)) == 24


def test_a_share_of_0_is_no_splicing(corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    plain = fit(data(corpora, splice=None), tiny_model, tmp_path / "plain").steps
    assert fit(data(corpora, splice=Splicing(share=0)), tiny_model, tmp_path / "spliced").steps == plain


# What cannot be spliced


def untimed(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(replace(span, start=None, end=None) for span in spans)


def test_utterances_that_cannot_be_cut_are_heard_whole_and_counted(corpora: dict[str, str], tiny_model: Path):
    """A short span is not inserted and its utterance no host, but the other spans of it serve."""
    rewrite(corpora["ko-en"], "ko-en-0", spans=None)
    rewrite(corpora["ja-en"], "ja-en-0", spans=untimed)
    rewrite(
        corpora["de-en"], "de-en-1", spans=lambda s: (replace(s[0], end=0.35), replace(s[1], start=0.75, end=0.849))
    )
    splice, training = splicer(corpora, tiny_model)
    assert splice.summary() == {
        "hosts": {"ko-ja": 2, "ko-de": 2, "ja-de": 2},
        "inserts": {"ko": 1, "en": 4, "ja": 1, "de": 2},
        "left_out": {
            "ko-en": {"without spans": 1},
            "ja-en": {"without the spans' times": 1},
            "de-en": {"with a span under 0.1 s": 1},
        },
    }
    for pair, index in (("ko-en", 0), ("ja-en", 0), ("de-en", 1)):
        assert splice(pair, training[pair][index], 0) == (None, ())
    texts = {splice.plan("ko-en", training["ko-en"][1], seed).utterance.text for seed in range(50)}
    assert texts == {"新しい。 내일 만나요.", "Ich habe das. 내일 만나요.", "verpasst. 내일 만나요."}


def test_the_window_holds_every_splice(corpora: dict[str, str], tiny_model: Path):
    """1.3 s: beside 0.85 s of 새 ...를 봤어요. there is room for 0.45 s, beside 0.9 s of German for 0.4 s."""
    splice, training = splicer(corpora, tiny_model, window_s=1.3)
    texts = {splice.plan("ko-en", training["ko-en"][0], seed).utterance.text for seed in range(200)}
    fitting = {"私は", "新しい", "Ich habe das", "verpasst", "bin ich da"}
    assert texts == {f"새 {text}를 봤어요." for text in fitting}
    splice, _ = splicer(corpora, tiny_model, window_s=1.1)  # 0.25 s, less than any Japanese or German span
    assert all(splice.plan("ko-en", training["ko-en"][0], seed) is None for seed in range(20))


def test_the_decoder_holds_every_splice(corpora: dict[str, str], tiny_model: Path):
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    most = 40
    splice, training = splicer(corpora, tiny_model, tokens=most)
    sizes = [
        len(tokenizer.encode(plan.utterance.text, add_special_tokens=False)) + 5
        for pair, utterances in training.items()
        for utterance in utterances
        for seed in range(100)
        if (plan := splice.plan(pair, utterance, seed))
    ]
    assert most - 8 < max(sizes) <= most


def test_a_language_of_one_pair_alone(corpora: dict[str, str], tiny_model: Path):
    """Japanese stands in ja-en alone: all Japanese comes from there, and ja-en by itself can only be spliced within."""
    two = {pair: corpora[pair] for pair in ("ko-en", "ja-en")}
    splice, training = splicer(two, tiny_model)
    assert splice.summary()["hosts"] == {"ko-ja": 4}
    with pytest.raises(UserError, match=r"no pair to make of ja-en that is not among them; .*data\.splice\.sources"):
        splicer({"ja-en": corpora["ja-en"]}, tiny_model)
    splice, training = splicer({"ja-en": corpora["ja-en"]}, tiny_model, pairs=["ja-en"])  # within the pair
    texts = {splice.plan("ja-en", training["ja-en"][0], seed).utterance.text for seed in range(100)}
    assert {"私はprojectに行く。", "新しいmeetingに行く。"} <= texts


def test_pairs_and_matrix_can_be_chosen(corpora: dict[str, str], tiny_model: Path):
    for matrix, kept in (("first", {"ja"}), ("second", {"ko"}), ("both", {"ja", "ko"})):
        splice, training = splicer(corpora, tiny_model, pairs=["ja-ko"], matrix=matrix)
        plans = [splice.plan(pair, training[pair][0], seed) for pair in training for seed in range(20)]
        assert {plan.utterance.pair for plan in plans if plan} == {"ja-ko"}
        assert {plan.utterance.matrix_language for plan in plans if plan} == kept


def test_spans_of_the_same_speaker_go_first(corpora: dict[str, str], tiny_model: Path):
    rewrite(corpora["ja-en"], "ja-en-1", speaker="ko-en speaker 0")
    splice, training = splicer(corpora, tiny_model, same_speaker=True, pairs=["ko-ja"])
    for index, expected in ((0, {"新しい"}), (1, {"新しい。", "私は。", "に行く。"})):  # nobody else speaks both
        plans = [splice.plan("ko-en", training["ko-en"][index], seed) for seed in range(50)]
        assert {s.text for plan in plans for s in plan.utterance.spans if s.language == "ja"} == expected


def test_other_speech_can_give_the_spans(corpora: dict[str, str], tiny_model: Path):
    """Fine-tuning on one pair, with spans of two others."""
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    options = Splicing(share=1, sources=[corpora["ja-en"], corpora["de-en"]])
    module = PairDataModule({"ko-en": corpora["ko-en"]}, workers=0, splice=options)
    module.read(tokenizer, window_s=10.0, max_tokens=128)
    assert module.splicer.summary()["hosts"] == {"ko-ja": 2, "ko-de": 2}
    options = replace(options, sources=[corpora["ko-en"]])
    module = PairDataModule({"ko-en": corpora["ko-en"]}, workers=0, splice=options, held_out=[corpora["ko-en"]])
    with pytest.raises(UserError, match="held out for testing"):
        module.read(tokenizer, window_s=10.0, max_tokens=128)


def test_spans_of_broken_audio_are_drawn_again_and_counted_once(
    corpora: dict[str, str], tiny_model: Path, tmp_path: Path
):
    audio = Path(corpora["ja-en"]).with_name("ja-en-0.wav")
    audio.write_bytes(audio.read_bytes()[:1000])
    with pytest.raises(UserError, match="1 training utterance cannot be read"):
        fit_pairs(corpora, tiny_model, tmp_path / "a", max_broken=0)
    module, steps = fit_pairs(corpora, tiny_model, tmp_path / "b", max_broken=1)
    [broken] = module.skips.skipped
    assert (broken.pair, broken.index, broken.id) == ("ja-en", 0, "ja-en-0") and "cut short" in broken.reason
    spliced = [row[1] for step in steps for row in step]
    assert len(spliced) == 7 * 6 and not any("ja-en-0" in name for name in spliced)


def fit_pairs(corpora: dict[str, str], model: Path, folder: Path, **options: Any) -> tuple[PairDataModule, list[Any]]:
    module = data(corpora, splice=Splicing(share=1), **options)
    return module, fit(module, model, folder).steps


# The command line


def recipe(corpora: dict[str, str], model: Path, folder: Path, recipe: str = "erm.yaml", **splice: Any) -> list[str]:
    config = {
        "output_root": str(folder),
        "model": {"backbone": str(model)},
        "data": {"train": corpora, "pairs": list(corpora), "utterances_per_pair": 2, "workers": 0, "splice": splice},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    }
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return ["--config", recipe, "--config", "splice.yaml", "--config", str(folder / "tiny.yaml")]


@pytest.mark.parametrize("name", ["erm", "fishr", "fish"])
def test_splicing_lies_over_any_recipe(name: str, corpora: dict[str, str], tiny_model: Path, tmp_path: Path):
    cli = TrainingRun([*recipe(corpora, tiny_model, tmp_path / "runs", name), "--data.splice.share", "0.9"])
    assert cli.datamodule.splice == Splicing(share=0.9)
    cli.fit()
    record = json.loads((tmp_path / "runs" / f"{name}-splice" / "run.json").read_text())
    assert record["spliced"]["hosts"] == {"ko-ja": 4, "ko-de": 4, "ja-de": 4}
    assert list(record["corpora"]) == list(corpora)


@pytest.mark.parametrize(
    ("splice", "message"),
    [
        ({"share": 1.5}, r"data\.splice\.share is 1\.5, expected a share from 0 to 1"),
        ({"share": {"ko_en": 0.5}}, r"data\.splice\.share names ko_en, no pair trained on, did you mean 'ko-en'"),
        ({"spans": [1, 4]}, r"data\.splice\.spans is \[1, 4\], expected the least and the most, 2 or more"),
        ({"crossfade_s": 0.2}, r"data\.splice\.crossfade_s is 0\.2, expected 0 to 0\.05"),
        ({"gap_s": 5}, r"data\.splice\.gap_s is 5, expected seconds"),
        ({"jitter_s": 2}, r"data\.splice\.jitter_s is 2, expected seconds from 0 to 1"),
        ({"pairs": ["ko"]}, r"data\.splice\.pairs names 'ko', expected two languages, such as ko-ja"),
        ({"pairs": ["ko-zh"]}, r"data\.splice: no span of zh to make ko-zh of"),
        ({"shaer": 1}, r"data\.splice: Splicing has no option 'shaer', did you mean 'share'"),
        ({"pattern": "frme"}, r"data\.splice\.pattern is 'frme', expected host, parallel, chain$"),
        ({"pattern": "frame"}, r"data\.splice\.pattern is 'frame', expected .*; frame is called host now"),
        ({"pattern": "parallel"}, "pattern parallel and data.splice.phrases need each other: the file holds sentences"),
        ({"phrases": "sentences.jsonl"}, "pattern parallel and data.splice.phrases need each other"),
        ({"sources": ["none.jsonl"]}, r"none\.jsonl: no such manifest"),
    ],
)
def test_mistakes_are_answered(
    splice: dict[str, Any], message: str, corpora: dict[str, str], tiny_model: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        TrainingRun(recipe(corpora, tiny_model, tmp_path / "runs", **splice)).fit()


def test_untimed_corpora_are_sent_to_align(corpora: dict[str, str], tiny_model: Path):
    for manifest in corpora.values():
        for utterance in read_manifest(manifest):
            rewrite(manifest, utterance.id, spans=untimed)
    with pytest.raises(UserError, match=r"left out: 12 utterances without the spans' times; python prepare\.py align"):
        splicer(corpora, tiny_model)


# On disk


def test_prepare_writes_splices_as_a_corpus(corpora: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture):
    """Every host once before any comes again, by pair; equal for a seed; sound and times agree with the sources'."""
    arguments = ["splice", *corpora.values(), "--utterances", "5", "--seed", "3", "--out"]
    assert prepare(*arguments, str(tmp_path / "a")) == prepare(*arguments, str(tmp_path / "b")) == 0
    assert f"{tmp_path}/a/ko-ja/spliced.jsonl: 5 utterances" in capsys.readouterr().out
    for pair in ("ko-ja", "ko-de", "ja-de"):
        manifest = tmp_path / "a" / pair / "spliced.jsonl"
        assert manifest.read_bytes() == (tmp_path / "b" / pair / "spliced.jsonl").read_bytes()
        record = json.loads(manifest.with_name("corpus.json").read_text())
        assert (record["corpus"], record["command"]) == (pair, "splice")
        assert record["manifests"]["spliced.jsonl"]["utterances"] == 5
        rows = read_manifest(manifest)
        assert len({row.id for row in rows}) == 5 and {row.pair for row in rows} == {pair}
        kept = {tuple(s.text for s in row.spans if s.language == row.matrix_language) for row in rows[:4]}
        assert len(kept) == 4  # of two pairs of two utterances each
        for row in rows:
            again = tmp_path / "b" / pair / "audio" / row.audio.name
            assert row.audio.read_bytes() == again.read_bytes()
            assert len(load_waveform(row.audio)) == round(row.duration * HZ)
    with pytest.raises(UserError, match=r"no utterance of ko-ja fits into the window"):
        prepare(*arguments, str(tmp_path / "c"), "--pairs", "ko-ja", "--window", "0.5")
    assert not list((tmp_path / "c").iterdir())


def test_prepare_replaces_nothing_but_a_spliced_corpus(corpora: dict[str, str], tmp_path: Path):
    arguments = ["splice", *corpora.values(), "--utterances", "2", "--pairs", "ko-ja", "ko-de", "--out", str(tmp_path)]
    assert prepare(*arguments) == prepare(*arguments) == 0
    for name in ("notes.txt", "corpus.json"):
        folder = tmp_path / "ko-de"
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_text('{"corpus": "mine"}')
        before = (tmp_path / "ko-ja" / "corpus.json").stat().st_ino
        with pytest.raises(UserError, match=r"ko-de: .*; (choose|name) another (with )?--out"):
            prepare(*arguments)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (tmp_path / "ko-ja" / "corpus.json").stat().st_ino == before  # found before anything is written


def prepare(*arguments: str) -> int:
    return run(prepare_script.PREPARE, arguments)

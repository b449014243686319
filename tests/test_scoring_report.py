"""The report page: read as HTML, and opened in a browser where there is one."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import wave
from html.parser import HTMLParser

import pytest

from common.errors import UserError
from scoring.contributions import UtteranceToScore
from scoring.metrics import score
from scoring.panels import PlotScale
from scoring.report import write_report
from scoring.results import results_table, score_set

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)> \"'&amp; =1+1 \u202eabc\u202c"
SHOWN = HOSTILE.replace("\u202e", "‹U+202E›").replace("\u202c", "‹U+202C›")
SAID = {
    "ko-en": [("a", "이번 project는 좋아"), ("b", "데이터를 check 했어요"), (HOSTILE, f"이것은 {HOSTILE} 이다")],
    "ko-ja": [("a", "오늘 会議 있어요"), ("b", "データ 좋아요")],
    "de": [("a", "für die Straße")],
}
HEARD = {
    "base": {
        "ko-en": ["this project is good", "데이터를 책 했어요요", ""],
        "ko-ja": ["오늘 회의", HOSTILE],
        "de": ["für"],
    },
    HOSTILE: {
        "ko-en": ["이번 project는 좋아", "데이터를 check", "이것은"],
        "ko-ja": ["오늘 会議", "데이터"],
        "de": ["für die Straße"],
    },
    "oracle": {"ko-ja": ["오늘 会議 있어요", "データ 좋아요"]},
}


def sound(seconds):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x00\x10" * int(8000 * seconds))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    results = {
        model: {
            name: score_set(
                [
                    UtteranceToScore(identity, text, heard, tuple(name.split("-")), speaker=HOSTILE)
                    for (identity, text), heard in zip(SAID[name], texts, strict=True)
                ]
            )
            for name, texts in by_set.items()
        }
        for model, by_set in HEARD.items()
    }
    groups = {"base": "Base", HOSTILE: "Fine-tuned", "oracle": "Oracle"}
    table = results_table(results, groups, seen=["ko-en"], unseen=["ko-ja"], baseline="base")
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        file,
        results,
        table,
        audio=lambda name, identity: sound(1.5) if identity != "b" else None,
        title=f"Title {HOSTILE}",
        notes={"Decoding": HOSTILE},
    )
    return file


class Reader(HTMLParser):
    """Collects text, elements and attributes as a browser would find them."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.stack = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if self.stack and tag == self.stack[-1]:
            self.stack.pop()

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else "", data))


@pytest.fixture(scope="module")
def read(page):
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_nothing_is_fetched_from_anywhere(read):
    addresses = [
        value
        for _, attrs in read.elements
        for name, value in attrs.items()
        if name in ("src", "href", "data", "action")
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    style = "".join(text for kind, text in read.texts if kind == "style")
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_is_shown_and_never_obeyed(page, read):
    text = "".join(data for kind, data in read.texts if not kind)
    assert text.count(SHOWN) >= 8  # title, note, model, speaker, reference, hypothesis, ...
    assert "\u202e" not in page.read_text(encoding="utf-8")
    tags = [tag for tag, _ in read.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [name for _, attrs in read.elements for name in attrs if name.startswith("on")]


def test_the_policy_allows_the_pages_own_script_alone(read):
    policy = next(attrs["content"] for tag, attrs in read.elements if attrs.get("http-equiv"))
    script = next(data for kind, data in read.texts if kind == "script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_sounds_are_whole_and_asked_only_where_there_are_any(read):
    sounds = [attrs["src"] for tag, attrs in read.elements if tag == "audio"]
    # Four utterances called a or HOSTILE have a sound, and all have some error.
    assert len(sounds) == 4
    assert all(base64.b64decode(source.removeprefix("data:audio/wav;base64,")) == sound(1.5) for source in sounds)


def test_every_model_and_set_can_be_filtered(read):
    values = [attrs["value"] for tag, attrs in read.elements if tag == "button" and "value" in attrs]
    assert values == ["ko-en", "ko-ja", "de", "base", SHOWN, "oracle"]
    for kind, names in (("data-set", values[:3]), ("data-model", values[3:])):
        assert {attrs[kind] for _, attrs in read.elements if kind in attrs} == set(names)


def test_the_alignment_is_coloured_by_kind(page):
    card = re.search(
        r'<article class="card" data-set="ko-en"(?:(?!</article>).)*데이터를 check.*?</article>',
        page.read_text("utf-8"),
        re.S,
    )[0]
    steps = re.findall(r'<span class="step (\w+)"[^>]*><s>(.*?)</s><i>(.*?)</i></span>', card)
    wrong = [step for step in steps if step[0] != "hit"]
    # 데 이 터 를 [check>책] 했 어 요 [+요], then for the other model 데 이 터 를 check [-했 -어 -요]
    assert sorted(wrong) == sorted(
        [("substitutions", "check", "책"), ("insertions", "", "요")] + [("deletions", token, "") for token in "했어요"]
    )


def test_a_missing_sound_is_named_and_leaves_no_page(tmp_path):
    results = {"m": {"ko": score_set([UtteranceToScore("u7", "좋아", "조아", ("ko",))])}}
    table = results_table(results, {"m": "g"}, seen=[], unseen=[])
    with pytest.raises(UserError, match=r"none\.wav: the audio of 'u7' \(ko\) cannot be read"):
        write_report(tmp_path / "report.html", results, table, audio=lambda *_: tmp_path / "none.wav")
    assert list(tmp_path.iterdir()) == []


def test_without_errors_spans_or_sound_there_is_still_a_page(tmp_path):
    results = {"m": {"de-en": score_set([UtteranceToScore("u", "ein meeting", "ein meeting", ("de", "en"))])}}
    write_report(tmp_path / "report.html", results, results_table(results, {"m": "g"}, seen=["de-en"], unseen=[]))
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Every hypothesis is right" in text
    assert "nothing (one script, no spans)" in text


@pytest.mark.parametrize(
    ("values", "end", "ticks"),
    [
        ([0.23, None], 0.25, 6),
        ([0.06], 0.06, 4),
        ([1.01], 1.25, 6),
        ([9.0], 1.5, 4),
        ([], 0.01, 2),
        ([float("nan")], 0.01, 2),
    ],
)
def test_scales_are_round_and_hold_all_values(values, end, ticks):
    scale = PlotScale.over(values)
    assert scale.end == pytest.approx(end)
    assert len(scale.ticks) == ticks
    assert scale.at(scale.end / 2) == "50.00%"
    assert scale.at(99) == "100.00%"


PROBE = """
const press = (value) => document.querySelector(`button[value="${value}"]`).click();
const visible = (query) => Array.from(document.querySelectorAll(query)).filter((e) => e.checkVisibility()).length;
const result = { title: document.title, cards: visible(".card") };
press("ko-ja");
result.cards_of_one_set = visible(".card");
result.columns = visible(".results thead th");
press("base");
result.rows = visible(".hypothesis");
document.querySelectorAll(".chips .all").forEach((button) => button.click());
result.cards_again = visible(".card");
const order = document.getElementById("order");
order.value = "base";
order.dispatchEvent(new Event("change"));
result.first = Number(document.querySelector(".card .hypothesis[data-model=base]").dataset.rate);
result.wide = document.documentElement.scrollWidth > innerWidth;
const sounds = Array.from(document.querySelectorAll("audio"));
const ready = (audio) => new Promise((done) => {
  audio.addEventListener("canplaythrough", () => done(audio.duration));
  audio.addEventListener("error", () => done(audio.error.message));
  audio.load();
});
Promise.all(sounds.map(ready)).then(async (durations) => {
  result.durations = durations;
  await sounds[0].play();
  result.playing = !sounds[0].paused;
  document.documentElement.dataset.result = JSON.stringify(result);
});
"""


def browse(file, folder):
    """Opens a page and returns (its final DOM, what it wrote on the console)."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--autoplay-policy=no-user-gesture-required", "--enable-logging=stderr", f"--user-data-dir={folder}",
            "--window-size=1280,900", "--virtual-time-budget=8000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_opens_it_without_complaint_and_filters_and_plays(page, tmp_path):
    dom, console = browse(page, tmp_path / "profile")
    assert console == []
    assert "pwned</title>" not in dom

    probed = tmp_path / "probed.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    probed.write_text(text.replace("</body>", f"<script>{{ {PROBE} }}</script></body>"), encoding="utf-8")
    dom, console = browse(probed, tmp_path / "profile")
    assert console == []
    found = re.search(r'data-result="([^"]*)"', dom)
    assert found, "the probe did not end"
    reader = Reader()
    reader.feed(f'<p data-result="{found[1]}">')
    result = json.loads(reader.elements[0][1]["data-result"])
    texts = [pair for name, heard in HEARD["base"].items() for pair in zip(SAID[name], heard, strict=True)]
    worst = max(score([said[1]], [heard]).micro for said, heard in texts)
    assert result == {
        "title": f"Title {SHOWN}",
        "cards": 6,
        "cards_of_one_set": 2,
        "columns": 3 * 4,  # model, ko-ja and the two averages; micro, script-tolerant and macro
        "rows": 2,
        "cards_again": 6,
        "first": pytest.approx(worst, abs=1e-6),
        "wide": False,
        "durations": [1.5] * 4,
        "playing": True,
    }

"""`python -m scoring` on files of transcripts, good and bad."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.errors import UserError
from common.options import main
from scoring.__main__ import SCORING
from scoring.contributions import UtteranceToScore, score_transcript
from scoring.tokens import PROFILES
from scoring.transcript_files import read_json_lines, read_texts, to_row

ROOT = Path(__file__).parents[1]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in the test's folder, in this process."""

    def command(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", ["scoring", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main(SCORING)
        return Done(exit_.value.code, *capsys.readouterr())

    return command


@pytest.fixture
def texts(tmp_path):
    # A line separator and a form feed inside a line are no ends of lines; the last hypothesis is empty.
    (tmp_path / "refs.txt").write_bytes("\ufeff이번 project는\u2028 좋아\r\na\x0c b\nc d\n".encode())
    (tmp_path / "hyps.txt").write_bytes("이번 project는 좋아\na x\n\n".encode())
    return tmp_path


def test_no_line_end_is_part_of_a_text(texts):
    found = read_texts(texts / "refs.txt", texts / "hyps.txt")
    assert [one.reference for one in found] == ["이번 project는\u2028 좋아", "a\x0c b", "c d"]


def test_two_texts_line_by_line(run, texts):
    done = run("refs.txt", "hyps.txt", "--languages", "ko-en", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["profile"] == "cjk"
    assert (scores["micro"], scores["macro"]) == (3 / 10, (0 + 1 / 2 + 1) / 3)
    assert scores["figures"]["failure.empty"]["value"] == pytest.approx(1 / 3)
    assert scores["figures"]["language.en"]["numerator"] == 3


def test_the_terminal_shows_both_averages_and_where_languages_are_from(run, texts):
    done = run("refs.txt", "hyps.txt", "--profile", "cjk")
    assert done.returncode == 0, done.stderr
    assert "3 utterances, 10 tokens, profile cjk" in done.stdout
    assert "languages of tokens by script" in done.stdout
    lines = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("   ")}
    assert lines["micro (pooled)"].split()[2] == "30.0"
    assert lines["macro (mean of utterances)"].split()[4] == "50.0"


def test_json_lines_with_spans(run, tmp_path):
    row = {
        "id": "a",
        "reference": "ich habe den call",
        "hypothesis": "ich habe den",
        "pair": "de-en",
        "spans": [{"language": "de", "text": "ich habe den"}, {"language": "en", "text": "call"}],
    }
    (tmp_path / "said.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    done = run("said.jsonl", "--json")
    assert json.loads(done.stdout)["figures"]["embedded_deletion"]["value"] == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "{", "a.jsonl:1: not JSON"),
        ("a.jsonl", "[1]", "a.jsonl:1: expected a JSON object, found list"),
        ("a.jsonl", '\n{"reference": "x"}', "a.jsonl:2: the field 'hypothesis' is missing"),
        ("a.jsonl", '{"reference": 3, "hypothesis": "x"}', "a.jsonl:1: the field 'reference' is 3, expected text"),
        ("a.jsonl", '{"reference": "x", "hypothesis": "x", "spans": [1]}', "a.jsonl:1: expected spans as"),
        ("a.jsonl", '{"reference": "…", "hypothesis": "x"}', "a.jsonl:1: the reference '…' holds no token"),
        ("a.jsonl", "", "there is no utterance to score"),
        ("a.jsonl", b"\xff", "a.jsonl: not UTF-8 text"),
        ("a.txt", "x", "name the hypotheses too"),
    ],
)
def test_a_bad_file_is_one_clear_message(run, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run(name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_files_unequal_lengths_and_unknown_profiles(run, texts):
    (texts / "short.txt").write_text("a\n", encoding="utf-8")
    for arguments, message in (
        (["none.txt", "hyps.txt"], "none.txt: no such file"),
        (["refs.txt", "short.txt"], "refs.txt has 3 lines but short.txt has 1"),
        (["refs.txt", "hyps.txt", "--profile", "cjl"], "did you mean 'cjk'"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr


def test_an_empty_reference_names_file_and_line(run, tmp_path):
    (tmp_path / "refs.txt").write_text("a\n\nb\n", encoding="utf-8")
    (tmp_path / "hyps.txt").write_text("a\n\nb\n", encoding="utf-8")
    assert "refs.txt:2: the reference '' holds no token" in run("refs.txt", "hyps.txt").stderr


def test_rows_read_back_as_the_transcripts_they_were(tmp_path):
    items = [
        UtteranceToScore(
            "a", "이번 bug", "x\u2028y", ("ko", "en"), "en", [("ko", "이번"), ("en", "bug")], "s1", (("가", "b"),)
        ),
        UtteranceToScore("b", "x", ""),
    ]
    rows = [to_row(score_transcript(item, PROFILES["cjk"])) for item in items]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    assert read_json_lines(tmp_path / "rows.jsonl") == items
    assert rows[1]["operations"] == "D"


def test_the_module_runs_and_its_help_loads_nothing():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scoring", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "usage: python -m scoring" in done.stdout
    assert not {"numpy", "jiwer", "rich", "rapidfuzz"} & {
        line.split("|")[-1].strip() for line in done.stderr.splitlines()
    }


@pytest.mark.parametrize("place", ["references", "hypotheses", "json"])
def test_control_tokens_are_refused_by_line_and_token(place, tmp_path):
    texts = {"references": ["hello world", "hello"], "hypotheses": ["hello world", "hello"]}
    texts.get(place, texts["references"])[1] = "<|0.00|> hello<|2.40|>"
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    rows = [{"reference": a, "hypothesis": b} for a, b in zip(*texts.values(), strict=True)]
    (tmp_path / "json").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=rf"{place}:2: the text holds the control token <\|0.00\|>"):
        if place == "json":
            read_json_lines(tmp_path / "json")
        else:
            read_texts(tmp_path / "references", tmp_path / "hypotheses")

"""Transcripts from files: two texts line by line, or JSON lines; and scored utterances back to JSON lines."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.input_files import RECORDS, naming, read_bytes
from common.json_lines import read_rows
from common.manifest import check_plain
from scoring.contributions import ScoredUtterance, UtteranceToScore


def read_texts(
    references: Path | str, hypotheses: Path | str, languages: tuple[str, ...] | None = None
) -> list[UtteranceToScore]:
    """Read two texts line by line; utterances are named `file:line` of the reference.

    Args:
        references: a reference a line.
        hypotheses: a hypothesis a line, empty for an empty one.
        languages: the languages spoken, matrix language first.

    Raises:
        UserError: where a file is missing or not UTF-8, their numbers of lines differ, or a line holds a control token.
    """
    said, recognised = _lines(references), _lines(hypotheses)
    if len(said) != len(recognised):
        raise UserError(
            f"{references} has {len(said)} lines but {hypotheses} has {len(recognised)}; expected a hypothesis for "
            "each reference (an empty line for an empty hypothesis)"
        )
    found = []
    for number, (reference, hypothesis) in enumerate(zip(said, recognised, strict=True), start=1):
        check_plain(reference, f"{references}:{number}")
        check_plain(hypothesis, f"{hypotheses}:{number}")
        found.append(UtteranceToScore(f"{references}:{number}", reference, hypothesis, languages))
    return found


def read_json_lines(path: Path | str, languages: tuple[str, ...] | None = None) -> list[UtteranceToScore]:
    """Read objects with `reference` and `hypothesis`, and where given `id`, `pair`, `matrix_language`, `spans`
    ([{language, text}]), `speaker`, `loanwords` ([[native, borrowed]]) and `normalized`.

    Raises:
        UserError: naming file, line and field; also where a text holds a control token.
    """
    transcripts = []
    for where, row in read_rows(path):
        transcripts.append(_transcript(row, where, languages))
        check_plain(transcripts[-1].reference, where)
        check_plain(transcripts[-1].hypothesis, where)
    return transcripts


def read_run(path: Path | str) -> tuple[str, dict[str, dict[str, list[UtteranceToScore]]]]:
    """Return an evaluation's profile, and its transcripts by model and test set, from its `hypotheses.jsonl`.

    Raises:
        UserError: naming file, line and field; also where it holds no line.
    """
    profile, models = "", {}
    for where, row in read_rows(path):
        for name in ("model", "set", "profile"):
            if not isinstance(row.get(name), str):
                raise UserError(f"{where}: the field {name!r} is missing; expected a file that evaluate.py wrote")
        profile = row["profile"]
        models.setdefault(row["model"], {}).setdefault(row["set"], []).append(_transcript(row, where, None))
    if not models:
        raise UserError(f"{path}: the file holds no hypotheses")
    return profile, models


def _transcript(row: dict[str, Any], where: str, languages: tuple[str, ...] | None) -> UtteranceToScore:
    wanted = {"reference": True, "hypothesis": True, "pair": False, "speaker": False, "normalized": False}
    for name, needed in wanted.items():
        value = row.get(name)
        if not isinstance(value, str) and (needed or value is not None):
            found = "is missing" if name not in row else f"is {value!r}"
            raise UserError(f"{where}: the field {name!r} {found}, expected text")
    try:
        spans = None if row.get("spans") is None else [(str(s["language"]), s.get("text")) for s in row["spans"]]
        loanwords, transliterations = spellings(row.get("loanwords")), spellings(row.get("transliterations"))
    except (TypeError, KeyError, ValueError, AttributeError):
        raise UserError(
            f'{where}: expected spans as [{{"language": ..., "text": ...}}], loanwords as [[native, borrowed]] and '
            "transliterations as {embedded: native}"
        ) from None
    return UtteranceToScore(
        id=str(row.get("id") or where),
        reference=row["reference"],
        hypothesis=row["hypothesis"],
        languages=tuple(row["pair"].split("-")) if row.get("pair") else languages,
        matrix_language=row.get("matrix_language"),
        spans=usable_spans(spans),
        speaker=row.get("speaker"),
        loanwords=loanwords,
        normalized=row.get("normalized"),
        transliterations=transliterations,
    )


def spellings(pairs: Iterable[Any] | Mapping[Any, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return labelled spellings as pairs of text, from a list of pairs or a mapping.

    Raises:
        TypeError, ValueError: where an item is no pair.
    """
    found = pairs.items() if isinstance(pairs, Mapping) else pairs or ()
    if any(isinstance(pair, str) for pair in found):  # text of two letters would be taken apart
        raise TypeError("expected pairs of text")
    return tuple((str(one), str(other)) for one, other in found)


def usable_spans(spans: list[tuple[str, str | None]] | None) -> list[tuple[str, str]] | None:
    """Return the spans where every one has a text, None otherwise."""
    if not spans or not all(isinstance(text, str) for _, text in spans):
        return None
    return [(language, text) for language, text in spans if text is not None]


def to_row(utterance: ScoredUtterance) -> Mapping[str, Any]:
    """Return a scored utterance as a JSON object that `read_json_lines` reads again."""
    item, alignment = utterance.transcript, utterance.alignment
    return {
        **{name: getattr(item, name) for name in ("id", "reference", "hypothesis", "matrix_language", "speaker")},
        "pair": "-".join(item.languages) if item.languages else None,
        "spans": None if item.spans is None else [{"language": code, "text": text} for code, text in item.spans],
        **({"loanwords": [list(pair) for pair in item.loanwords]} if item.loanwords else {}),
        **({"normalized": item.normalized} if item.normalized else {}),
        **({"transliterations": dict(item.transliterations)} if item.transliterations else {}),
        "reference_tokens": list(alignment.reference),
        "hypothesis_tokens": list(alignment.hypothesis),
        "operations": alignment.operations,
        "token_languages": list(utterance.languages),
        "languages_by": utterance.source,
        **utterance.counts._asdict(),
        "tolerant_errors": utterance.tolerance.errors,
        "script_matches": [
            {"rule": match.rule, "reference": alignment.reference[match.start : match.end]}
            | {"hypothesis": alignment.hypothesis[match.at : match.until]}
            for match in utterance.tolerance.matches
        ],
        "failures": list(utterance.failures),
    }


def _lines(path: Path | str) -> list[str]:
    with naming(path):
        text = read_bytes(path, RECORDS).decode("utf-8-sig")
    # Not splitlines(): a line separator or form feed inside a transcript ends no line.
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines

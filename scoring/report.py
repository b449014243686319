"""The report page: `report.html` holds scores, plots, transcripts and audio, and needs no other file."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from common.escape import template
from common.files import write_text
from scoring.panels import failure_panels, interval, language_panels, place_panels, rate_panels
from scoring.results import Results, SetScore, having
from scoring.summary import per_cent, source_text
from scoring.table import AVERAGES, Table
from scoring.utterance_cards import Audio, worst_utterances

_PAGE = Path(__file__).parent / "page"
_WORST = 8  # utterances of each test set that are shown


def write_report(
    path: Path | str,
    results: Results,
    table: Table,
    *,
    audio: Audio | None = None,
    title: str = "Code-switched speech recognition",
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write the page, atomically.

    Args:
        path: the file to write.
        results: scores by model, then by test set.
        table: the results table of the same models.
        audio: gives an utterance's sound, by test set and id, as the bytes or the path of a sound file; None where
            there is none. It is called only for the utterances shown.
        title: the page's heading.
        notes: what else to state at the top (decoding policy, versions, ...).

    Raises:
        UserError: where a sound file that `audio` names cannot be read.
    """
    sets = [name for name in table.columns if having(results, name)]
    groups = list(dict.fromkeys(row.group for row in table.rows))
    script = (_PAGE / "report.js").read_text(encoding="utf-8")
    page = template(_PAGE / "report.html").render(
        title=title,
        notes=dict(notes or {}),
        table=table,
        averages=AVERAGES,
        sets=sets,
        models=[row.model for row in table.rows],
        hues={row.model: groups.index(row.group) for row in table.rows},
        tongues={code: index for index, code in enumerate(_codes(results))},
        oracles={row.model for row in table.rows if row.is_oracle},
        about={name: _about(next(iter(having(results, name).values()))) for name in sets},
        rates=rate_panels(results, table),
        languages=language_panels(results, sets),
        places=place_panels(results, sets),
        failures=failure_panels(results, sets),
        utterances=worst_utterances(results, sets, _WORST, audio),
        per_cent=per_cent,
        interval=interval,
        style=Markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # The page's policy lets this script run and no other.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, page)


def _codes(results: Results) -> list[str]:
    """Return the languages of all reference tokens."""
    scored = (utterance for by_set in results.values() for result in by_set.values() for utterance in result.utterances)
    return sorted({code for utterance in scored for code in utterance.languages if code})


def _about(result: SetScore) -> str:
    """Return the note under a test set's name."""
    figures = result.estimates
    mixing = f", {figures['switches'].value:.1f} switches each" if "switches" in figures else ""
    sources = f"languages by {source_text(figures)}; intervals over {result.drawn}"
    return f"{len(result.utterances)} utterances{mixing}; {sources}"

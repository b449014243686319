"""Bring the tables of README.md and docs/demo.md up to date with RESULTS.md:  python docs/site/readme_tables.py"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- --8<-- [start:table] -->\n", "<!-- --8<-- [end:table] -->"  # of the demo's; mkdocs reads them, too
SHOWN = 9  # columns of the short table: group, model, the pairs and their averages
MERGES = " + "


def section(page: str, study: str) -> str:
    """Return RESULTS.md from a study's section on."""
    return page.split(f"<!-- study {study} -->\n")[1]


def full(page: str) -> str:
    """Return a page's first table: the error rates pooled over utterances."""
    return re.search(r"(?:^\|.*\n)+", page, re.MULTILINE)[0]


def short(table: str) -> str:
    """Return the pairs' columns, without the merges of two models."""
    group, kept = "", []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        group = cells[0] or group
        if cells[1].count(MERGES) == 1:
            continue
        cells[0] = "" if any(row[0] == group for row in kept) else group
        cells[1] = cells[1].split(" ko-en + ")[0] + (", all three" if MERGES in cells[1] else "")
        kept.append([group, cells])
    return "".join(f"| {' | '.join(cells[:SHOWN])} |\n" for _, cells in kept)


def put(path: Path, table: str, mark: str = "table") -> None:
    """Replace what stands between a page's marks."""
    page = path.read_text(encoding="utf-8")
    begin, end = (text.replace(":table", f":{mark}") for text in (BEGIN, END))
    before, rest = page.split(begin)
    path.write_text(f"{before}{begin}{table}{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    demo, whisper = (full(section(results, study)) for study in ("demo", "whisper_base"))
    put(ROOT / "docs/demo.md", "\n" + demo + "\n")
    put(ROOT / "README.md", "\n" + short(demo) + "\n")
    put(ROOT / "README.md", "\n" + short(whisper) + "\n", "whisper")

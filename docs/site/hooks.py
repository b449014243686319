"""What the site needs beyond its pages: the reference, a place in the navigation for every page, links out of docs/."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
BESIDE = {f"{name.upper()}.md": f"{name}.md" for name in ("results", "contributing", "changelog", "third_party")}
SECTIONS = {"": "Guides", "howto": "How to", "algorithms": "Algorithms"}
_LINK = re.compile(r"\[([^]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference and the pages that lie beside docs/, and give each page its place in the navigation."""
    reference: list[Any] = [_add(files, config, "reference/index.md", _index())]
    for room in ROOMS:
        modules = _modules(room)
        for name in modules:
            _add(files, config, f"reference/{name}.md", f"# {name}\n\n::: {name}\n")
        reference.append({room: [{name.removeprefix(f"{room}."): f"reference/{name}.md"} for name in modules]})
    beside = [
        _add(files, config, page, (ROOT / name).read_text(encoding="utf-8"))
        for name, page in BESIDE.items()
        if (ROOT / name).is_file()
    ]
    _place(files, config.nav)
    config.nav += [{"Reference": reference}, {"Project": beside}]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files beside docs/ into links to their page, and links to code into the path of the code."""
    uri = page.file.src_uri
    origin = next((name for name, target in BESIDE.items() if target == uri), f"docs/{uri}")

    def resolved(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if path in BESIDE or path.startswith("docs/"):
            place = BESIDE.get(path) or path.removeprefix("docs/")
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(uri) or '.')}{anchor})"
        if not (ROOT / path).exists():
            return link[0]  # the strict build names it
        return text if text.startswith("`") or link.string[link.start() - 1] == "!" else f"{text} (`{path}`)"

    return _LINK.sub(resolved, markdown)


def _add(files: Files, config: MkDocsConfig, uri: str, content: str) -> str:
    files.append(File.generated(config, uri, content=content))
    return uri


def _index() -> str:
    trees = {room: ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")) for room in ROOMS}
    rooms = [f"- **{room}**: {ast.get_docstring(tree)}" for room, tree in trees.items()]
    return "\n".join(["# Reference", "", "Every public name, out of the code's own docstrings.", "", *rooms, ""])


def _modules(room: str) -> list[str]:
    """Return the names of a room's modules that have public names."""
    files = [path for path in sorted((ROOT / room).rglob("*.py")) if not path.name.startswith("__")]
    shown = [path for path in files if re.search(r"^(class|def) [^_]", path.read_text(encoding="utf-8"), re.MULTILINE)]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in shown]


def _place(files: Files, nav: list[Any]) -> None:
    """Append pages that the navigation does not name to those of their folder."""
    entries = [next(iter(item.values())) for item in nav]
    named = {page for entry in entries for page in (entry if isinstance(entry, list) else [entry])}
    for file in files.documentation_pages():
        folder = posixpath.dirname(file.src_uri)
        if file.src_uri in named or file.inclusion.is_excluded() or file.generated_by:
            continue
        section = next((item for item in nav if isinstance(item, dict) and SECTIONS.get(folder) in item), None)
        if section is None:
            nav.append({folder.title(): [file.src_uri]})
            SECTIONS[folder] = folder.title()
        else:
            next(iter(section.values())).append(file.src_uri)

"""A transcript as HTML: words marked by language, with buttons to copy and to download it."""

from base64 import b64encode

from common.escape import html
from decoding.transcript import Transcript, language_runs

# Languages differ by colour, by line style and by the code before each run, so that nobody needs to see colours. The
# colours are legible on white and on black. The codes come from the style sheet, so they are not copied with the words.
STYLE = """
.transcript { overflow-wrap: anywhere; }
.transcript p { line-height: 2; margin: 0.5em 0; font-size: 1.1em; }
.transcript [lang] { text-decoration: underline 2px; text-underline-offset: 5px; }
.transcript [lang]::before {
  content: attr(lang); display: inline-block; font: 600 0.7em monospace; margin: 0 0.3em; vertical-align: 0.2em;
}
.transcript .language-0 { text-decoration-color: #888; }
.transcript .language-1 { text-decoration-color: #0b84c6; text-decoration-style: double; }
.transcript .language-2 { text-decoration-color: #d1651a; text-decoration-style: dashed; }
.transcript .language-3 { text-decoration-color: #8a63d2; text-decoration-style: dotted; }
.transcript .language-1::before { color: #0b84c6; }
.transcript .language-2::before { color: #d1651a; }
.transcript .language-3::before { color: #8a63d2; }
.transcript footer { display: flex; flex-wrap: wrap; gap: 0.5em; }
.transcript footer > * {
  padding: 0.4em 0.9em; border: 1px solid currentColor; border-radius: 6px; color: inherit; background: none;
  font: inherit; text-decoration: none; cursor: pointer;
}
"""
_STYLES = 4
_COPY = "navigator.clipboard.writeText(this.dataset.text).then(() => { this.textContent = 'Copied' })"
_FORMS = ("txt", "srt", "vtt", "json")


def transcript_view(transcript: Transcript, title: str) -> str:
    """Return the transcript as a section of HTML; the files to download are embedded in it.

    Args:
        transcript: with words.
        title: above it.
    """
    notes = "".join(f"<small>{html(note)}</small><br>" for note in transcript.notes())
    links = ""
    for form in _FORMS:
        address = f"data:text/plain;charset=utf-8;base64,{b64encode(transcript.written(form).encode()).decode()}"
        links += f'<a download="{html(transcript.file.stem)}.{form}" href="{address}">{form.upper()}</a>'
    return (
        f'<section class="transcript" aria-label="{html(title)}"><h3>{html(title)}</h3>'
        f"<p>{_marked(transcript)}</p>{notes}"
        f'<footer><button type="button" data-text="{html(transcript.text)}" onclick="{html(_COPY)}">Copy</button>'
        f"{links}</footer></section>"
    )


def _marked(transcript: Transcript) -> str:
    """Mark each run of one language, and give each word its times as a tooltip; text without words stays as it is."""
    languages = list(dict.fromkeys(word.language for found in transcript.hypotheses for word in found.words))
    pieces = []
    for found in transcript.hypotheses:
        piece = "" if found.words else html(found.text)
        for space, language, run in language_runs(found):
            inside = "".join(
                f'{gap}<span title="{word.start:.2f} to {word.end:.2f} s">{html(word.text)}</span>' for gap, word in run
            )
            style = languages.index(language) % _STYLES
            piece += f'{space}<span lang="{html(language)}" class="language-{style}">{inside}</span>'
        pieces.append(piece)
    return " ".join(filter(None, pieces))

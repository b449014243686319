"""Code-switching: which slots of a frame can be said in the embedded language, and how that reads.

Three levels, as the literature on mixed corpora has them: a *word* takes the matrix language's grammar (`report를`,
`checkした`, `den report`), a *phrase* brings its own (`the new report`, `am Bahnhof`), a *sentence* stands by itself.
Embedded words keep their own orthography.
"""

from __future__ import annotations

from dataclasses import replace

from corpora.speak.grammar import GRAMMARS, Filler, Slot, german_noun_phrase

Pieces = list[tuple[str, str]]  # (language, annotated text)

_VERB_ENDINGS = {
    "ko": {"past": "했어요", "future": "할 거예요", "want": "하고 싶어요", "please": "해 주세요"},
    "ja": {"past": "しました", "future": "します", "want": "したいです", "please": "してください"},
}
# The case, as the last letter of `der`, `den`, `dem`, that the particle after a Korean noun calls for.
_KOREAN_CASES = {"이": "r", "은": "r", "을": "n", "와": "m", "으": "m"}
_THIS = ("이", "この", "diesen")


def switched(slot: Slot, filler: Filler, matrix: str, embedded: str, level: str, following: str) -> Pieces | None:
    """Returns the slot's pieces with its switch at the level, or None where the slot has no natural one.

    Args:
        slot: the slot of a matrix frame.
        filler: what stands in it.
        matrix: the frame's language.
        embedded: the language switched to.
        level: `word`, `phrase` or `sentence`.
        following: the frame's literal text after the slot, whose particle shows a Korean noun's case.
    """
    if level == "sentence":
        if slot.kind != "clause":
            return None
        after_ideographic_stop = [(matrix, " ")] if embedded == "ja" else []
        return [(embedded, GRAMMARS[embedded](slot, filler)), *after_ideographic_stop]
    if slot.kind == "clause" or filler.is_name:
        return None
    if level == "word":
        return _word(slot, filler, matrix, embedded)
    return _phrase(slot, filler, matrix, embedded, following)


def _word(slot: Slot, filler: Filler, matrix: str, embedded: str) -> Pieces | None:
    forms = filler.word[embedded]
    if slot.kind == "verb":
        return _verb(slot, filler, matrix, embedded)
    if slot.kind == "adj":
        return _predicate(filler, matrix, embedded)
    if slot.kind in ("adverb", "time"):
        return [(embedded, forms[0])]
    if slot.kind == "place":
        if filler.word["de"][0] == "Hause" and "de" in (matrix, embedded):  # only in `zu Hause`, `nach Hause`
            return None
        if matrix != "de":
            return [(embedded, forms[0]), (matrix, slot.form.split()[1])]
        place, at, to = filler.word["de"]
        before = {"at": at, "to": to}[slot.form].removesuffix(place)
        return [(matrix, before), (embedded, forms[0])]
    noun = bare_noun(filler, embedded)
    if matrix == "de":
        if slot.kind == "person":  # `meine boss` would need the friend's gender
            return None
        gender = borrowed_gender(noun, filler.word["de"][0].split(" ")[0])
        before = german_noun_phrase(slot, filler, gender, "").strip()
        return [(matrix, f"{before} ".lstrip()), (embedded, noun)]
    before = [slot.form, filler.adjective[matrix][0] if filler.adjective else ""]
    return [*((matrix, f"{word} ") for word in before if word), (embedded, noun)]


def _verb(slot: Slot, filler: Filler, matrix: str, embedded: str) -> Pieces | None:
    """A verb under the matrix language's light verb: `check했어요`, `checkしました`."""
    if not all(_takes_light_verb(filler, language) for language in (matrix, embedded)):
        return None
    stem = filler.word[embedded][0]
    if matrix not in _VERB_ENDINGS or " " in stem:
        return None
    return [
        (embedded, stem.removesuffix("し") if embedded == "ja" else stem),
        (matrix, _VERB_ENDINGS[matrix][slot.form]),
    ]


def _takes_light_verb(filler: Filler, language: str) -> bool:
    return {
        "ko": filler.word["ko"][0].endswith("했어요"),
        "ja": filler.word["ja"][1].endswith("して"),
    }.get(language, True)


def _predicate(filler: Filler, matrix: str, embedded: str) -> Pieces | None:
    """An adjective as predicate: `important해요`, `importantです`, `ist important`."""
    adjective = filler.word[embedded][0]
    if matrix == "ko" and not filler.word["ko"][1].endswith("해요"):
        return None
    if embedded == "ja":
        if not adjective.endswith("な"):
            return None
        adjective = adjective.removesuffix("な")
    return [(embedded, adjective), *{"ko": [("ko", "해요")], "ja": [("ja", "です")], "de": []}[matrix]]


def _phrase(slot: Slot, filler: Filler, matrix: str, embedded: str, following: str) -> Pieces | None:
    if slot.kind in ("verb", "adj", "adverb"):
        return None
    if slot.kind == "time":
        form = ""
    elif slot.kind == "place":
        form = _place_form(slot, matrix, embedded)
    elif matrix != "de" and "transport" in slot.tags:  # `by bus` and `mit dem Bus` are no nouns
        return None
    else:
        uncounted = filler.word["en"][0].startswith("some ")
        if uncounted and not filler.adjective and slot.form not in _THIS:
            return None  # `coffee` alone is a word
        form = _noun_form(slot, embedded, following, uncounted)
    return [(embedded, GRAMMARS[embedded](replace(slot, form=form), filler))]


def _place_form(slot: Slot, matrix: str, embedded: str) -> str:
    role, *particle = slot.form.split()
    if embedded == "ja":
        return f"{role} {'で' if particle == ['에서'] else 'に'}"
    return role


def _noun_form(slot: Slot, embedded: str, following: str, uncounted: bool) -> str:
    """The determiner of the embedded language that says what the matrix frame says: `this`, `a`, or else `the`."""
    this = slot.form in _THIS
    if embedded == "ja":
        return "この" if this else ""
    if embedded == "en":
        return "this" if this else "bare" if uncounted else "a" if slot.form.startswith("ein") else "the"
    case = _KOREAN_CASES.get(following[:1], "r")
    if this:
        return {"r": "dieser", "n": "diesen"}[case]
    return {"r": "ein", "n": "einen", "m": "einem"}[case] if uncounted else f"de{case}"


def bare_noun(filler: Filler, language: str) -> str:
    """The noun without its article, as it is borrowed."""
    noun = filler.word[language][0]
    return noun.split(" ", 1)[1] if language in ("en", "de") else noun


def borrowed_gender(noun: str, translation_gender: str) -> str:
    """The article a German speaker gives an English noun: by its ending, else by its translation's gender."""
    by_ending = {"ing": "das", "ment": "das", "tion": "die"}
    return next((gender for ending, gender in by_ending.items() if noun.endswith(ending)), translation_gender)

"""Code-switching: which blanks of a template can be said in the embedded language, and how that reads.

Three levels, as the literature on mixed corpora has them: a *word* takes the matrix language's grammar (`report를`,
`checkした`, `den report`), a *phrase* brings its own (`the new report`, `am Bahnhof`), a *sentence* is whole.
Embedded words keep their own orthography.
"""

from corpora.speak.grammar import ENDINGS, GRAMMARS, Blank, Filling, german_noun_phrase

Pieces = list[tuple[str, str]]  # (language, annotated text)

_THIS = ("이", "この", "diesen")


def switched(blank: Blank, filling: Filling, matrix: str, embedded: str, level: str, following: str) -> Pieces | None:
    """Returns the blank's pieces with its switch at the level, or None where the blank has no natural one.

    Args:
        blank: the blank of a matrix template.
        filling: the word in it.
        matrix: the template's language.
        embedded: the language switched to.
        level: `word`, `phrase` or `sentence`.
        following: the template's literal text after the blank, whose particle shows a Korean noun's case.
    """
    if (level == "sentence") != (blank.kind == "clause") or filling.is_name:
        return None
    if level == "sentence":
        after_ideographic_stop = [(matrix, " ")] if embedded == "ja" else []
        return [(embedded, GRAMMARS[embedded](blank, filling)), *after_ideographic_stop]
    if level == "word":
        return _word(blank, filling, matrix, embedded)
    return _phrase(blank, filling, matrix, embedded, following)


def _word(blank: Blank, filling: Filling, matrix: str, embedded: str) -> Pieces | None:
    forms = filling.word[embedded]
    if blank.kind == "verb":
        return _verb(blank, filling, matrix, embedded)
    if blank.kind == "adj":
        return _predicate(filling, matrix, embedded)
    if blank.kind in ("adverb", "time"):
        return [(embedded, forms[0])]
    if blank.kind == "place":
        if filling.word["de"][0] == "Hause" and "de" in (matrix, embedded):  # only in `zu Hause`, `nach Hause`
            return None
        if matrix != "de":
            return [(embedded, forms[0]), (matrix, blank.form.split()[1])]
        place, at, to = filling.word["de"]
        return [(matrix, (at if blank.form == "at" else to).removesuffix(place)), (embedded, forms[0])]
    noun = bare_noun(filling, embedded)
    if matrix == "de":
        if blank.kind == "person":  # `meine boss` would need the friend's gender
            return None
        gender = borrowed_gender(noun, filling.word["de"][0].split(" ")[0])
        before = german_noun_phrase(blank, filling, gender, "")
        return [(matrix, f"{before} ".lstrip()), (embedded, noun)]
    before = [blank.form, filling.adjective[matrix][0] if filling.adjective else ""]
    return [*((matrix, f"{word} ") for word in before if word), (embedded, noun)]


def _verb(blank: Blank, filling: Filling, matrix: str, embedded: str) -> Pieces | None:
    """A verb under the matrix language's light verb: `check했어요`, `checkしました`."""
    light = {"ko": filling.word["ko"][0].endswith("했어요"), "ja": filling.word["ja"][1].endswith("して")}
    stem = filling.word[embedded][0]
    if matrix not in ENDINGS["light_verbs"] or " " in stem or not (light[matrix] and light.get(embedded, True)):
        return None
    borrowed = stem.removesuffix("し") if embedded == "ja" else stem
    return [(embedded, borrowed), (matrix, ENDINGS["light_verbs"][matrix][blank.form])]


def _predicate(filling: Filling, matrix: str, embedded: str) -> Pieces | None:
    """An adjective as predicate: `important해요`, `importantです`, `ist important`."""
    adjective = filling.word[embedded][0]
    if matrix == "ko" and not filling.word["ko"][1].endswith("해요"):
        return None
    if embedded == "ja" and not adjective.endswith("な"):
        return None
    return [(embedded, adjective.removesuffix("な")), (matrix, ENDINGS["predicates"][matrix])]


def _phrase(blank: Blank, filling: Filling, matrix: str, embedded: str, following: str) -> Pieces | None:
    if blank.kind in ("verb", "adj", "adverb"):
        return None
    if blank.kind == "time":
        form = ""
    elif blank.kind == "place":
        form, *particle = blank.form.split()
        if embedded == "ja":
            form += " で" if particle == ["에서"] else " に"
    elif matrix != "de" and "transport" in blank.tags:  # `by bus` and `mit dem Bus` are no nouns
        return None
    else:
        uncounted = filling.word["en"][0].startswith("some ")
        if uncounted and not filling.adjective and blank.form not in _THIS:
            return None  # `coffee` alone is a word
        form = _noun_form(blank, embedded, following, uncounted)
    return [(embedded, GRAMMARS[embedded](blank._replace(form=form), filling))]


def _noun_form(blank: Blank, embedded: str, following: str, uncounted: bool) -> str:
    """The determiner of the embedded language that says what the matrix template says: `this`, `a`, or else `the`."""
    this = blank.form in _THIS
    if embedded == "ja":
        return "この" if this else ""
    if embedded == "en":
        return "this" if this else "bare" if uncounted else "a" if blank.form.startswith("ein") else "the"
    case = ENDINGS["korean_cases"].get(following[:1], "r")
    if this:
        return {"r": "dieser", "n": "diesen"}[case]
    return {"r": "ein", "n": "einen", "m": "einem"}[case] if uncounted else f"de{case}"


def bare_noun(filling: Filling, language: str) -> str:
    """The noun without its article, as it is borrowed."""
    noun = filling.word[language][0]
    return noun.split(" ", 1)[1] if language in ("en", "de") else noun


def borrowed_gender(noun: str, translation_gender: str) -> str:
    """The article a German speaker gives an English noun: by its ending, else by its translation's gender."""
    by_ending = {"ing": "das", "ment": "das", "tion": "die"}
    return next((gender for ending, gender in by_ending.items() if noun.endswith(ending)), translation_gender)

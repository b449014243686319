"""The four languages' grammar, as far as the frames need it: what a filled slot reads like in its own language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corpora.speak.lexicon import Word, spoken


@dataclass(frozen=True)
class Slot:
    """A gap in a frame, written `{kind:tags|form}`; the form (a case, a tense) is the frame language's own."""

    kind: str
    tags: frozenset[str] = frozenset()
    form: str = ""


@dataclass(frozen=True)
class Filler:
    """What stands in a slot: a word, and the adjective that a noun may carry."""

    word: Word
    adjective: Word | None = None

    @property
    def is_name(self) -> bool:
        """Whether the word is a person's name, which takes no article and is not translated."""
        return "name" in self.word.tags


def korean(slot: Slot, filler: Filler) -> str:
    """Renders a slot in Korean; the particles after nouns stand in the frames and are chosen by `particle`."""
    forms = filler.word["ko"]
    if slot.kind == "verb":
        past, adnominal, stem, infinitive = forms
        return {
            "past": past,
            "future": f"{adnominal} 거예요",
            "want": f"{stem} 싶어요",
            "please": f"{infinitive} 주세요",
        }[slot.form]
    if slot.kind == "adj":
        return forms[1]
    if slot.kind == "place":
        return forms[0] + slot.form.split()[1]
    if slot.kind == "clause":
        return f"{forms[0]}. "
    return _unarticled("ko", slot, filler)


def japanese(slot: Slot, filler: Filler) -> str:
    """Renders a slot in Japanese, annotated with readings."""
    forms = filler.word["ja"]
    if slot.kind == "verb":
        stem, te_form = forms
        return {
            "past": f"{stem}ました",
            "future": f"{stem}ます",
            "want": f"{stem}たいです",
            "please": f"{te_form}ください",
        }[slot.form]
    if slot.kind == "adj":
        return forms[0].removesuffix("な") + "です"
    if slot.kind == "place":
        return forms[0] + slot.form.split()[1]
    if slot.kind == "clause":
        return f"{forms[0]}。"
    return _unarticled("ja", slot, filler)


def _unarticled(language: str, slot: Slot, filler: Filler) -> str:
    """A Korean or Japanese noun after its demonstrative, the slot's form, and its adjective, if any."""
    adjective = filler.adjective[language][0] if filler.adjective else ""
    return " ".join(filter(None, [slot.form, adjective, filler.word[language][0]]))


_GERMAN_CASES = {"r": "nominative", "n": "accusative", "m": "dative"}
_STRONG = {  # the endings of `dieser`, and of an adjective that no article precedes, by gender der/die/das
    "nominative": {"der": "er", "die": "e", "das": "es"},
    "accusative": {"der": "en", "die": "e", "das": "es"},
    "dative": {"der": "em", "die": "er", "das": "em"},
}
_DEFINITE = {
    "nominative": {"der": "der", "die": "die", "das": "das"},
    "accusative": {"der": "den", "die": "die", "das": "das"},
    "dative": {"der": "dem", "die": "der", "das": "dem"},
}


def german(slot: Slot, filler: Filler) -> str:
    """Renders a slot in German; a noun's form is the masculine determiner that shows its case: `den`, `einem`."""
    forms = filler.word["de"]
    if slot.kind == "verb":
        return forms[{"infinitive": 0, "participle": 1}[slot.form]]
    if slot.kind == "adj":
        return forms[0]
    if slot.kind == "place":
        return forms[{"at": 1, "to": 2}[slot.form]]
    if slot.kind == "clause":
        return f"{capitalised(forms[0])}. "
    if slot.kind in ("time", "adverb") or filler.is_name:
        return forms[0]
    gender, noun = forms[0].split(" ", 1)
    return german_noun_phrase(slot, filler, gender, noun)


def german_noun_phrase(slot: Slot, filler: Filler, gender: str, noun: str) -> str:
    """Declines determiner and adjective around `noun` of a gender (`der`, `die`, `das`) in the slot's case."""
    family = slot.form[:3]  # der/den/dem, ein/einen/einem, mein…, die(ser)…
    indefinite = family in ("ein", "mei")
    case = "nominative" if slot.form in ("ein", "mein") else _GERMAN_CASES[slot.form[-1]]
    if "person" in filler.word.tags:
        family, indefinite = "mei", True
    uncounted = filler.word["en"][0].startswith("some ")
    # After `ein` and `mein` the adjective shows the gender only where the article does not.
    bare = indefinite and (case == "nominative" or (case == "accusative" and gender == "das")) and gender != "die"
    if family == "ein" and uncounted:
        determiner = ""
    elif indefinite:
        determiner = {"ein": "ein", "mei": "mein"}[family] + ("" if bare else _STRONG[case][gender])
    elif family == "die":
        determiner = "dies" + _STRONG[case][gender]
    else:
        determiner = _DEFINITE[case][gender]
    adjective = ""
    if filler.adjective:
        if not determiner or bare:
            ending = _STRONG[case][gender]
        else:
            ending = "en" if case == "dative" or (case == "accusative" and gender == "der") else "e"
        adjective = filler.adjective["de"][-1] + ending
    return " ".join(filter(None, [determiner, adjective, noun]))


def english(slot: Slot, filler: Filler) -> str:
    """Renders a slot in English; a noun's form is its determiner: `the`, `a`, `this`, `my` or `bare`."""
    forms = filler.word["en"]
    if slot.kind == "verb":
        return forms[{"base": 0, "past": 1}[slot.form]]
    if slot.kind == "place":
        return forms[{"at": 1, "to": 2}[slot.form]]
    if slot.kind == "clause":
        return f"{capitalised(forms[0])}. "
    if slot.kind in ("time", "adverb", "adj") or filler.is_name:
        return forms[0]
    article, noun = forms[0].split(" ", 1)
    if filler.adjective:
        noun = f"{filler.adjective['en'][0]} {noun}"
    if "person" in filler.word.tags:
        article = "my"
    elif slot.form == "a":
        article = article if article == "some" else indefinite_article(noun)
    else:
        article = slot.form
    return noun if article == "bare" else f"{article} {noun}"


GRAMMARS: dict[str, Callable[[Slot, Filler], str]] = {
    "ko": korean,
    "ja": japanese,
    "de": german,
    "en": english,
}


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the rest as it was."""
    return text[:1].upper() + text[1:]


def indefinite_article(noun_phrase: str) -> str:
    """`an` before a vowel's sound, else `a`."""
    return "an" if noun_phrase[0] in "aeiou" and not noun_phrase.startswith(("use", "uni")) else "a"


# 백, 북, 컵: a short vowel and a stop, or a nasal that is not written last.
_CLOSED_IN_KOREAN = {
    "bag",
    "book",
    "cup",
    "hat",
    "jacket",
    "laptop",
    "map",
    "market",
    "restaurant",
    "ticket",
    "trip",
    "wallet",
}


def final_consonant(text: str, language: str) -> str:
    """The consonant that closes the last syllable as a Korean speaker hears it: "" (open), "ㄹ" or another.

    Hangul by its code point; other scripts by the usual rules of transcription (m, n, ng and l close a syllable,
    other consonants get a vowel of their own: `리포트`), with the common exceptions listed.
    """
    last = spoken(text, language).rstrip(" .?").split(" ")[-1]
    if language == "ko":
        index = (ord(last[-1]) - 0xAC00) % 28
        return "" if index == 0 else "ㄹ" if index == 8 else "other"
    if language == "ja":
        return "other" if last[-1] in "んン" else ""
    last = last.lower()
    if last in _CLOSED_IN_KOREAN:
        return "other"
    if language == "en" and last.endswith(("le", "me", "ne")):  # a silent e: file, game, phone
        last = last[:-1]
    return "ㄹ" if last.endswith("l") else "other" if last.endswith(("m", "n", "ng")) else ""


_PARTICLES = ("은/는", "이/가", "을/를", "와/과", "으로/로")


def particle(literal: str, before: str, language: str) -> str:
    """Resolves a frame's `을/를` at the head of `literal` by the sound that `before` ends in."""
    for alternatives in _PARTICLES:
        if literal.startswith(alternatives):
            closed, opened = alternatives.split("/")
            final = final_consonant(before, language)
            if alternatives == "와/과":
                closed, opened = opened, closed
            if alternatives == "으로/로" and final == "ㄹ":
                final = ""
            return (closed if final else opened) + literal[len(alternatives) :]
    return literal

"""The demo's words, and the four languages' grammar as far as the templates need it: how a filled blank reads.

The words are in `lexicon/*.tsv`: one row a concept, aligned over the four languages. A cell holds the forms that the
templates need, separated by `/`. English and German nouns carry their article (`a report`, `der Bericht`; `some coffee`
marks what is not counted). Japanese is annotated with its reading, `本[ほん]`, since espeak-ng's Japanese voice reads
kana only, with spaces between phrases for the voice alone.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_ANNOTATED = re.compile(r"([一-龯々]+|は|へ)\[([ぁ-んァ-ンー]+)\]")


@dataclass(frozen=True)
class Word:
    """A concept: its semantic tags, which say what goes with what, and its forms by language."""

    tags: frozenset[str]
    forms: dict[str, tuple[str, ...]]

    def __getitem__(self, language: str) -> tuple[str, ...]:
        return self.forms[language]

    def goes_with(self, tags: frozenset[str]) -> bool:
        """Whether the word has one of the tags (every word goes with no tags)."""
        return not tags or bool(self.tags & tags)


@functools.cache
def words(part_of_speech: str) -> tuple[Word, ...]:
    """The rows of one table, in file order."""
    table = Path(__file__).parent / "lexicon" / f"{part_of_speech}.tsv"
    header, *rows = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    return tuple(
        Word(frozenset(tags.split()), dict(zip(header[1:], (tuple(cell.split("/")) for cell in cells), strict=True)))
        for tags, *cells in rows
    )


def written(text: str, language: str) -> str:
    """What the transcript shows of an annotated text: kanji without readings, Japanese without spaces."""
    return _ANNOTATED.sub(r"\1", text).replace(" ", "") if language == "ja" else text


def spoken(text: str, language: str) -> str:
    """What the voice is given of an annotated text: for Japanese the kana, phrase by phrase."""
    return _ANNOTATED.sub(r"\2", text).replace("。", ". ") if language == "ja" else text


class Blank(NamedTuple):
    """A blank of a template, written `{kind:tags|form}`; the form is a case or a tense of the template's language."""

    kind: str
    tags: frozenset[str] = frozenset()
    form: str = ""


class Filling(NamedTuple):
    """What fills a blank: a word, and the adjective that a noun may have."""

    word: Word
    adjective: Word | None = None

    @property
    def is_name(self) -> bool:
        """Whether the word is a person's name, which takes no article and is not translated."""
        return "name" in self.word.tags


ENDINGS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "endings.yaml").read_text(encoding="utf-8"))
_FORMS = {"base": 0, "past": 1, "infinitive": 0, "participle": 1, "at": 1, "to": 2}  # of German and English


def korean(blank: Blank, filling: Filling) -> str:
    """Renders a blank in Korean; the particles after nouns are in the templates and chosen by `particle`."""
    forms = filling.word["ko"]
    return forms[1] if blank.kind == "adj" else _unarticled("ko", blank, filling, ". ")


def japanese(blank: Blank, filling: Filling) -> str:
    """Renders a blank in Japanese, annotated with readings."""
    forms = filling.word["ja"]
    return forms[0].removesuffix("な") + "です" if blank.kind == "adj" else _unarticled("ja", blank, filling, "。")


def _unarticled(language: str, blank: Blank, filling: Filling, stop: str) -> str:
    """Renders what Korean and Japanese render alike; a noun follows its demonstrative, the blank's form."""
    forms = filling.word[language]
    if blank.kind == "verb":
        return ENDINGS["verbs"][language][blank.form].format(*forms)
    if blank.kind == "place":
        return forms[0] + blank.form.split()[1]
    if blank.kind == "clause":
        return forms[0] + stop
    adjective = filling.adjective[language][0] if filling.adjective else ""
    return " ".join(filter(None, [blank.form, adjective, forms[0]]))


def _uninflected(language: str, blank: Blank, filling: Filling) -> str | None:
    """Renders what German and English render alike, None for a noun with its determiner."""
    forms = filling.word[language]
    if blank.kind in ("verb", "place"):
        return forms[_FORMS[blank.form]]
    if blank.kind == "clause":
        return f"{capitalised(forms[0])}. "
    return forms[0] if blank.kind in ("time", "adverb", "adj") or filling.is_name else None


def german(blank: Blank, filling: Filling) -> str:
    """Renders a blank in German; a noun's form is the masculine determiner that shows its case: `den`, `einem`."""
    if (rendered := _uninflected("de", blank, filling)) is not None:
        return rendered
    gender, noun = filling.word["de"][0].split(" ", 1)
    return german_noun_phrase(blank, filling, gender, noun)


def german_noun_phrase(blank: Blank, filling: Filling, gender: str, noun: str) -> str:
    """Declines determiner and adjective before a noun in the blank's case.

    Args:
        blank: its form is the masculine determiner of the case.
        filling: the adjective, and the meaning that some determiners depend on.
        gender: the noun's article, `der`, `die` or `das`.
        noun: the noun, which need not be German.
    """
    family = {"ein": "ein", "mei": "mein", "die": "dieser"}.get(blank.form[:3], "der")
    case = "r" if blank.form in ("ein", "mein") else blank.form[-1]
    if "person" in filling.word.tags:
        family = "mein"
    elif family == "ein" and filling.word["en"][0].startswith("some "):
        family = "uncounted"
    *words, ending = ENDINGS["german"][case][family][gender].split()
    if filling.adjective:
        words.append(filling.adjective["de"][-1] + ending)
    return " ".join([*words, noun]).strip()


def english(blank: Blank, filling: Filling) -> str:
    """Renders a blank in English; a noun's form is its determiner: `the`, `a`, `this`, `my` or `bare`."""
    if (rendered := _uninflected("en", blank, filling)) is not None:
        return rendered
    article, noun = filling.word["en"][0].split(" ", 1)
    if filling.adjective:
        noun = f"{filling.adjective['en'][0]} {noun}"
    if "person" in filling.word.tags:
        article = "my"
    elif blank.form != "a":
        article = blank.form
    elif article != "some":
        article = indefinite_article(noun)
    return noun if article == "bare" else f"{article} {noun}"


GRAMMARS = {"ko": korean, "ja": japanese, "de": german, "en": english}


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the rest unchanged."""
    return text[:1].upper() + text[1:]


def indefinite_article(noun_phrase: str) -> str:
    """`an` before a vowel's sound, else `a`."""
    return "an" if noun_phrase[0] in "aeiou" and not noun_phrase.startswith(("use", "uni")) else "a"


# 백, 북, 컵: a short vowel and a stop, or a nasal that is not written last.
_CLOSED_IN_KOREAN = re.compile("bag|book|cup|hat|jacket|laptop|map|market|restaurant|ticket|trip|wallet")


def final_consonant(text: str, language: str) -> str:
    """The consonant that closes the last syllable in Korean pronunciation: "" (open), "ㄹ" or another.

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
    if _CLOSED_IN_KOREAN.fullmatch(last):
        return "other"
    if language == "en" and last.endswith(("le", "me", "ne")):  # a silent e: file, game, phone
        last = last[:-1]
    return "ㄹ" if last.endswith("l") else "other" if last.endswith(("m", "n", "ng")) else ""


_PARTICLES = re.compile("은/는|이/가|을/를|와/과|으로/로")


def particle(literal: str, before: str, language: str) -> str:
    """Chooses among a template's `을/를` by the sound before it.

    Args:
        literal: the template's text, which may begin with such a choice.
        before: the text before it.
        language: that text's language.
    """
    found = _PARTICLES.match(literal)
    if not found:
        return literal
    final = final_consonant(before, language)
    is_closed = bool(final) and not (found[0] == "으로/로" and final == "ㄹ")
    # After a consonant the first form, but of `와/과` the second.
    return found[0].split("/")[is_closed == (found[0] == "와/과")] + literal[found.end() :]

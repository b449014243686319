"""The lexicon of loanwords: its form, and that it holds what it should."""

import re

import pytest

from scoring.loanwords import _LEXICON, read_lexicon

SCRIPTS = {"ko": r"[가-힣]+", "ja": r"[ァ-ヺー]+"}
LISTS = sorted(_LEXICON.glob("*.tsv"))


def test_there_are_lists_for_both_languages():
    assert [path.stem for path in LISTS] == ["de-ja", "de-ko", "en-ja", "en-ko"]
    sizes = {path.stem: len(read_lexicon(path)) for path in LISTS}
    assert sizes["en-ko"] > 1000 and sizes["en-ja"] > 1000


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_list_is_clean(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert any("SPDX-License-Identifier: Apache-2.0" in line for line in lines if line.startswith("#"))
    rows = read_lexicon(path)
    words = [word for word, _ in rows]
    assert words == sorted(set(words))
    for word, variants in rows:
        assert re.fullmatch(r"[a-zäöüß]+( [a-zäöüß]+)*", word), word
        assert len(set(variants)) == len(variants), word
        assert all(re.fullmatch(SCRIPTS[path.stem[-2:]], variant) for variant in variants), word

"""Graphemes to phonemes by the espeak-ng library, from the wheel espeakng-loader (GPL-3, an optional extra)."""

import ctypes
import importlib.util
import re
from functools import cache

from common.errors import UserError

_VOICES = {"en": "en-us", "de": "de"}
_UTF8, _IPA, _NO_PLAYBACK = 1, 0x02, 2


def has_espeak() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def espeak_ipa(language: str, text: str) -> str:
    """Return the IPA of a text of English (`en`) or German (`de`), without punctuation.

    Raises:
        UserError: where the library is not installed.
    """
    library = _library()
    if library.espeak_SetVoiceByName(_VOICES[language].encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {_VOICES[language]!r}")
    buffer = ctypes.create_string_buffer(text.encode())
    rest = ctypes.c_void_p(ctypes.addressof(buffer))
    clauses = []
    while rest.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
    return re.sub(r"\([a-z-]+\)", "", " ".join(clauses)).strip()  # espeak-ng marks a change of voice, such as (en)


@cache
def _library() -> ctypes.CDLL:
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(f"phonemes need espeak-ng ({error}): pip install -e '.[voices]'") from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(_NO_PLAYBACK, 0, espeakng_loader.get_data_path().encode(), 0) <= 0:
        raise UserError("espeak-ng could not be initialised: reinstall it with pip install -e '.[voices]'")
    return library

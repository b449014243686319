"""Ogg Opus files whose bytes depend on the audio alone, without the random serial numbers that libsndfile writes."""

import io
from functools import cache

import numpy as np
import soundfile

_SERIAL, _CHECKSUM, _SEGMENTS, _HEADER = slice(14, 18), slice(22, 26), 26, 27
_LOWEST_BIT_RATE, _BIT_RATES = 6_000, 250_000  # libsndfile maps compression levels from 1 down to 0 to these


def encode_opus(samples_S: np.ndarray, rate_hz: int, bit_rate: int) -> bytes:
    """Return 16 kHz (or 8, 12, 24, 48 kHz) mono samples as the bytes of an Ogg Opus file.

    Args:
        samples_S: float32 in -1 to 1.
        rate_hz: their rate.
        bit_rate: bits a second, about; the container adds to it.
    """
    buffer = io.BytesIO()
    level = 1 - (bit_rate - _LOWEST_BIT_RATE) / _BIT_RATES
    soundfile.write(buffer, samples_S, rate_hz, format="OGG", subtype="OPUS", compression_level=level)
    return _numbered(buffer.getvalue())


def _numbered(file: bytes) -> bytes:
    """Give each page serial number 1, and the checksum that belongs to it (RFC 3533, section 6)."""
    pages, begin = [], 0
    while begin < len(file):
        segments = file[begin + _SEGMENTS]
        end = begin + _HEADER + segments + sum(file[begin + _HEADER : begin + _HEADER + segments])
        page = bytearray(file[begin:end])
        page[_SERIAL] = (1).to_bytes(4, "little")
        page[_CHECKSUM] = bytes(4)
        page[_CHECKSUM] = _checksum(page).to_bytes(4, "little")
        pages.append(bytes(page))
        begin = end
    return b"".join(pages)


def _checksum(page: bytes | bytearray) -> int:
    table, value = _table(), 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


@cache
def _table() -> list[int]:
    entries = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        entries.append(value)
    return entries

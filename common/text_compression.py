"""How well a text compresses: a text that repeats itself compresses by more than speech ever does."""

import zlib

MAX_COMPRESSION = 2.4  # Whisper's own threshold for a looping output (Radford et al., 2023, section 4.5)


def compression_ratio(text: str) -> float:
    """Return the size of a text divided by its size after zlib compression."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data))

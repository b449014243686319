"""Sizes that every Whisper model shares, the tolerance between files and manifests, and limits of the machine."""

import os

SAMPLE_RATE_HZ = 16_000  # resampling cannot restore what a lower rate lacks
WINDOW_S = 30.0  # the encoder's
MAX_TOKENS = 448  # the decoder's, prompt included
MOST_PROCESSES = max(4, 2 * (os.cpu_count() or 1))  # side by side on this machine
ON_THIS_MACHINE = f"on this machine of {os.cpu_count()} cores "
DURATION_TOLERANCE_S = 0.1  # between a file and the duration that its corpus or manifest states

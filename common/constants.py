"""What every Whisper has in common, and how far files may differ from what manifests say of them."""

SAMPLE_RATE_HZ = 16_000  # what a lower rate lacks, no resampling brings back
WINDOW_S = 30.0  # the encoder's
MAX_TOKENS = 448  # the decoder's, prompt included
DURATION_TOLERANCE_S = 0.1  # between a file and the duration that its corpus or manifest states

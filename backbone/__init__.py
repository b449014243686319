"""The Whisper that every room shares: model folders, log-mel, loss, language tags, greedy decoding."""

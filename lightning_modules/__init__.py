"""Whisper as a LightningModule, its checks, and the algorithms that train it."""

"""Whisper as a LightningModule, the algorithms that train it, and the model folder it leaves."""

"""From corpora to batches: manifests, audio, sampling, and the LightningDataModule of language pairs."""

"""From manifests to batches: sampling, audio, labels, splicing, and the LightningDataModule of language pairs."""

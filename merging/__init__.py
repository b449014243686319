"""Merging fine-tunes of one base into one model."""

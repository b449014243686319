"""Scoring of code-switched transcripts; pure Python, no torch."""

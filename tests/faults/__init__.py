"""Faults put into whole commands: `python -m pytest tests/faults` counts them, and what was lost by them."""

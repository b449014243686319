"""Exact k-th magnitudes."""


class Cut:
    """A cut."""

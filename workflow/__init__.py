"""The study: what it is made of, and what its results say over several seeds."""

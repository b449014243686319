"""Models on test sets: hypotheses, scores, one table and one report page."""

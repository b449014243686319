"""From utterances and recordings to hypotheses."""

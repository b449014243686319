"""Cross-pair splicing: utterances of unrecorded pairs, joined from pieces of recorded pairs."""

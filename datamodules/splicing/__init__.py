"""Cross-pair splicing: utterances of pairs that nobody recorded, cut from those of pairs that somebody did."""

"""The demo's corpora: sentences from frames and a lexicon, spoken by espeak-ng."""

"""The demo's corpora: sentences from templates and a lexicon, spoken by espeak-ng."""

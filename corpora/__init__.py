"""From corpora to manifests: readers, checks, alignment, and speech made from written sentences."""

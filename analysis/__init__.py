"""What fine-tuning changed: parameter deltas and their figures."""

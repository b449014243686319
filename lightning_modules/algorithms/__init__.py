"""Training algorithms in pure torch: one file each."""

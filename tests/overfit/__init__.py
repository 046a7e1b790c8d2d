"""Learning proofs: every family must come to know a handful of samples by heart, through the public engine."""

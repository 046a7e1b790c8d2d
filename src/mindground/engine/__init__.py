"""Training, evaluation and checkpoints: one loop for every family."""

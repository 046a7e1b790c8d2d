"""One module per on-disk format; each yields `Sample`s and nothing else."""

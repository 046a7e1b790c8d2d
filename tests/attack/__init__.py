"""Hostile and damaged files for every reader of files that others made, and the process that reads them under limits."""

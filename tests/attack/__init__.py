"""Hostile and damaged files for every reader of files of others, and the processes that read them under limits."""

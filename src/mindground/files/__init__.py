"""Bytes of strangers in, whole files out; nothing here runs what a file contains, and nothing imports MindSpore."""

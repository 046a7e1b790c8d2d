"""Weights of other frameworks: read without running them, renamed by maps, loaded with an account."""

"""Weights of other frameworks: renamed by maps and loaded with a report on every tensor."""

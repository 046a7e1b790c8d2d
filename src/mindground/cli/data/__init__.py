"""Verbs of `mindground data`: check, make and convert data sets."""

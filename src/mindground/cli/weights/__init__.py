"""Verbs of `mindground weights`: files of other frameworks in and out."""

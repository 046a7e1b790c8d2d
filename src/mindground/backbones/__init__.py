"""Encoders from images or text to features."""

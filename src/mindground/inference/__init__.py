"""Prediction with a trained model: for one image, for many files."""

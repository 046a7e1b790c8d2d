"""Image or text in, features out."""

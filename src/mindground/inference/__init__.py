"""Ask a trained model: about an image, about many images."""

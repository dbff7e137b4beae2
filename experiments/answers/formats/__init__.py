"""The file formats of answers: one module each, with its `FORMAT`."""

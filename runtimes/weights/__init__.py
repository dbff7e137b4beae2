"""Loading and quantization of weights."""

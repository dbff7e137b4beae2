"""What the training text and the benchmarks are made of: an invented world, and the forms of text that speak of it."""

"""The model and the benchmark data that come with the repository, and the scripts that made them from a seed."""

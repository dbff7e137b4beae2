"""Benchmarks of the evaluation core itself."""

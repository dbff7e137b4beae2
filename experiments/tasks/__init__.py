"""Prompts and scoring, one file a kind of benchmark. Knows nothing of runtimes or token batches."""

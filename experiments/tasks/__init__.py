"""Prompts and scoring, one file per benchmark. Independent of runtimes and token batches."""

"""Formats of articles with summaries, one per file: each defines `FORMAT`."""

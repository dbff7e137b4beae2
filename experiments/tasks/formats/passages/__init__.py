"""Formats of questions about passages, one per file: each defines `FORMAT`."""

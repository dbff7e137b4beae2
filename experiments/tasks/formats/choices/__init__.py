"""Formats of questions with choices, one per file: each defines `FORMAT`."""

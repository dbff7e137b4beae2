"""Advice: which measured cell to run under some constraints, and what to try next. Rows in, text out."""

"""Cells: planned from a configuration, run in a child process each, supervised, recorded."""

"""Interleaved timing: launches in which cells take turns."""

"""Comparison with other tools on the same work, interleaved on this machine."""

"""Placements: the distribution of a model over devices, host memory and disk."""

"""Placements: where the parts of a model lie while it runs."""

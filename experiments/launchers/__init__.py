"""Launchers: where the cells of a sweep are computed."""

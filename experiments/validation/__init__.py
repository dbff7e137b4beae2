"""Validation of this program: its gates' error rates, other tools, and claimed factors. Not part of the API."""

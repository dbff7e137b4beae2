"""Measuring a record again, and testing whether it is reproduced."""

"""Formats of programming problems, one per file. `format.py` is the contract; problems.py finds the others."""

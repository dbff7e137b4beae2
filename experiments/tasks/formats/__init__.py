"""Formats of data sets, one per file, in a folder for each kind of items. `format.py` is the contract."""

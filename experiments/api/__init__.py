"""The Python API, `from runtime_matrix import …`: the same functions that the commands use."""

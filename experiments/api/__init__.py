"""What `from runtime_matrix import …` offers: the functions that the commands use."""

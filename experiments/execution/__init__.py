"""Run each cell in its own processes, and supervise them."""

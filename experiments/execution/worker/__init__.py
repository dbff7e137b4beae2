"""What happens inside the process of a cell."""

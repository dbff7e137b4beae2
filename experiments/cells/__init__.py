"""Cells: planned from a configuration, checked and identified. `execution` runs them."""

"""Clocks, memory, statistics: numbers in, numbers out."""

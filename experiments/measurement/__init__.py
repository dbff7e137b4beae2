"""Measurement: clocks, memory, energy and the state of the machine. Independent of cells and records."""

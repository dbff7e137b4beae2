"""Sweeps: cells measured one after the other, then compared with their reference."""

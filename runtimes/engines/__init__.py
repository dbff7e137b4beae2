"""Engines: one small file each, all behind `runtimes.base.Runtime`."""

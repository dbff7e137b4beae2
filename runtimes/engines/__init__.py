"""Engines: one small module per engine; each implements `runtimes.base.Runtime`."""

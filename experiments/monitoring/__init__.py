"""Monitoring: what a sweep tells other systems while it runs. A sink that fails never fails a cell."""

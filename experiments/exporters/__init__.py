"""Monitoring: where a sweep's results go while it runs. An exporter that fails never fails a cell."""

"""Exporters: results of a sweep for monitoring systems while it runs. A failing exporter never fails a cell."""

"""Formats of passages whose last word is predicted, one per file: each defines `FORMAT`."""

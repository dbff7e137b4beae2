"""Cells run in processes of their own, supervised."""

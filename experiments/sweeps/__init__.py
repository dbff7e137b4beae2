"""Many cells one after the other, then compared."""

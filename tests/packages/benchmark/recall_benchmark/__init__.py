"""A benchmark and a gate axis of another package."""

"""What others claim, beside what was measured: claims, the figures that they name, and verdicts."""

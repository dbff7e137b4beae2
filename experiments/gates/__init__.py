"""Gates: limits on what a run measured, each with a verdict: pass, fail or inconclusive."""

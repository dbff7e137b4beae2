"""The search for the best configuration: cheap trials of all candidates, then longer ones of those that remain."""

"""The evaluation core: the only code that turns logits into log-probabilities or text, for every runtime."""

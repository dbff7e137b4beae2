"""The evaluation core: turns logits into log-probabilities and text, for every runtime. Nothing else does."""

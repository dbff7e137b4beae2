"""A detector of unsupported answers from a model's own attentions and hidden states: scores, fitting and judging."""

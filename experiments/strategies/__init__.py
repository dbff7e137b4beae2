"""Strategies for better answers: what is asked of the model besides the problem, and which program is kept."""

"""Runtime Matrix: measure how a language model should run.

The one import package of what is installed. In a checkout its parts are links to the folders beside it, so that no
module has two names: `python -m experiments.run` imports `runtime_matrix.experiments`, as `runtime-matrix run` does.
"""

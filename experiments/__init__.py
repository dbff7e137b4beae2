"""The commands, and the packages that they are built from."""

if __name__ == "experiments":  # `python -m experiments.run` in a checkout: Python imports the folder above the command
    import sys

    import runtime_matrix.experiments

    sys.modules["experiments"] = runtime_matrix.experiments

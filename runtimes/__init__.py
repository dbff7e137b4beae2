"""How a model is executed. `base.py` is the whole contract; nothing here imports anything of ours outside itself."""

if __name__ == "runtimes":  # a class imported under two names is two classes
    raise ImportError("import runtime_matrix.runtimes instead of runtimes")

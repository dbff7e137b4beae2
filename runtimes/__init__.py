"""How a model is executed. `base.py` is the whole contract; nothing here imports anything of ours outside itself."""

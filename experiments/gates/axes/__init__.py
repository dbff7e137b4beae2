"""What gates can limit: one axis per file. A file in this folder is an axis of every gate; no list names it.

To add an axis, write `NAME.py` here with a subclass of `Limits` that judges, and name what it declares:

    AXIS = Axis(limits=(MyLimits(part="reference", key="NAME", kind=float | None, default=None),))

A gate limits it where its YAML has the key: `reference: {NAME: 0.1}`. See `gates/axis.py` for all that can be declared:
the benchmarks and launches that a limit needs, the bounds that share the gate's error, what a baseline file keeps.
"""

"""The axes of gates, one per file. Every file in this folder is an axis of every gate, without further registration.

To add an axis, write `NAME.py` here with a subclass of `Limits` that judges, and declare it:

    AXIS = Axis(limits=(MyLimits(part="reference", key="NAME", kind=float | None, default=None),))

A gate applies it if its YAML has the key: `reference: {NAME: 0.1}`. See `gates/axis.py` for the declarations: required
benchmarks and launches, bounds that share the gate's alpha, and the content of baseline files.
"""

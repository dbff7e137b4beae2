"""Judges of generated texts: by a rule, by a served model or by one in this process, with the replies kept.

judge.py (the contract) ← one file per judge ← registry.py. judging.py asks, `tasks/judged.py` makes figures of it.
"""

"""Generated code, executed safely: programs in, verdicts or outputs out. Linux only.

pool.py (this process) → grader.py (a clean interpreter, confined once; runs the checks, never the program)
→ zygote.py (forked from it; never sees a check) → one forked, confined child per program.
Other languages: interpreter_pool.py → interpreter_runner.py (confined once) → one confined interpreter per program.
"""

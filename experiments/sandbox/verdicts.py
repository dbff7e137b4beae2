"""The verdict cache: verdicts by the content of program, test and limits, so that no program runs twice.

Only verdicts that depend on the program alone are stored: a timeout may be due to a slow machine. Limits of time differ
between runs and are no part of the key: a verdict counts if its program took far less than the present limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.program import Program, Verdict

_VERSION = 3  # raise it when the grading changes
_KEPT = ("passed", "failed")
_NEAR = 0.5  # to the limit: more than this fraction of it


class VerdictCache:
    """One SQLite file, safe for several processes. With `path` None nothing is stored. `hits` counts reuse.

    `versions` names what programs run with besides Python, such as its packages; other versions are other verdicts.
    """

    def __init__(self, path: Path | None, limits: Limits, early_stop: bool = True, versions: Sequence[str] = ()):
        self._cpu_s = limits.cpu_s
        self._conditions = json.dumps([_VERSION, asdict(replace(limits, cpu_s=0, wall_s=0.0)), early_stop, *versions])
        self.hits = 0
        self._kept = KeptTexts(path, "judged")

    @property
    def note(self) -> str | None:
        """What was wrong with the file; None if nothing was."""
        return self._kept.note

    def get(self, program: Program, cpu_s: int | None = None) -> Verdict | None:
        """Return the stored verdict; None if there is none that holds with this limit, or else that of the cache."""
        key = self._key(program)
        text = self._kept.get([key]).get(key)
        if text is None:
            return None
        verdict = Verdict(**json.loads(text))
        if verdict.cpu_s is None or verdict.cpu_s > _NEAR * (cpu_s or self._cpu_s):
            return None  # so near the limit, this run may give another verdict
        self.hits += 1
        return verdict

    def keep(self, judged: list[tuple[Program, Verdict]]) -> None:
        """Store the verdicts that depend on the program alone."""
        self._kept.put(
            (self._key(program), json.dumps(asdict(verdict)))
            for program, verdict in judged
            if verdict.status in _KEPT and verdict.cpu_s is not None
        )

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        self._kept.close()

    def _key(self, program: Program) -> str:
        return hashlib.sha256(f"{self._conditions}/{program.digest}".encode()).hexdigest()

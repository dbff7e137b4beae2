"""The verdict cache: verdicts by the content of program, test and limits, so that no program runs twice.

Only verdicts that depend on the program alone are stored: a timeout may be due to a slow machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Program, Verdict

_VERSION = 2  # raise it when the grading changes
_KEPT = ("passed", "failed")
_NEAR = 0.5  # fraction of the limit


class VerdictCache:
    """One SQLite file, safe for several processes. With `path` None nothing is stored. `hits` counts reuse.

    `versions` names what programs run with besides Python, such as its packages; other versions are other verdicts.
    """

    def __init__(self, path: Path | None, limits: Limits, versions: Sequence[str] = ()):
        self._cpu_s = limits.cpu_s
        self._limits = json.dumps([_VERSION, asdict(limits), *versions])
        self.hits = 0
        self._kept = KeptTexts(path, "judged")

    @property
    def note(self) -> str | None:
        """What was wrong with the file; None if nothing was."""
        return self._kept.note

    def get(self, program: Program) -> Verdict | None:
        """Return the stored verdict; None if there is none."""
        key = self._key(program)
        text = self._kept.get([key]).get(key)
        if text is None:
            return None
        self.hits += 1
        return Verdict(**json.loads(text))

    def keep(self, judged: list[tuple[Program, Verdict]]) -> None:
        """Store the verdicts that would not differ in another run."""
        self._kept.put(
            (self._key(program), json.dumps(asdict(verdict))) for program, verdict in judged if self._is_kept(verdict)
        )

    def _is_kept(self, verdict: Verdict) -> bool:
        """Return whether to store a verdict: near the limit of CPU time, another run may give another one."""
        is_near = verdict.cpu_s is None or verdict.cpu_s > _NEAR * self._cpu_s
        return verdict.status in _KEPT and not is_near

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        self._kept.close()

    def _key(self, program: Program) -> str:
        return hashlib.sha256(f"{self._limits}/{program.digest}".encode()).hexdigest()

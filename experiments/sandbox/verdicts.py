"""Verdicts kept by the content of program, test and limits: what was judged before is not run again.

Only verdicts that the program alone decides are kept: a timeout may be the machine's fault.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Program, Verdict

_VERSION = 2  # raised when the grading changes
_KEPT = ("passed", "failed")
_NEAR = 0.5  # of the limit


class VerdictCache:
    """One SQLite file; safe for several processes. `path` None keeps nothing."""

    def __init__(self, path: Path | None, limits: Limits):
        self._cpu_s = limits.cpu_s
        self._limits = json.dumps([_VERSION, asdict(limits)])
        self.hits = 0
        self._kept = KeptTexts(path, "judged")

    @property
    def note(self) -> str | None:
        """What was wrong with the file."""
        return self._kept.note

    def get(self, program: Program) -> Verdict | None:
        key = self._key(program)
        text = self._kept.get([key]).get(key)
        if text is None:
            return None
        self.hits += 1
        return Verdict(**json.loads(text))

    def keep(self, judged: list[tuple[Program, Verdict]]) -> None:
        self._kept.put(
            (self._key(one), json.dumps(asdict(verdict))) for one, verdict in judged if self._is_kept(verdict)
        )

    def _is_kept(self, verdict: Verdict) -> bool:
        """Near the limit of processor time, another run may come to another verdict."""
        is_near = verdict.cpu_s is None or verdict.cpu_s > _NEAR * self._cpu_s
        return verdict.status in _KEPT and not is_near

    def close(self) -> None:
        self._kept.close()

    def _key(self, program: Program) -> str:
        return hashlib.sha256(f"{self._limits}/{program.digest}".encode()).hexdigest()

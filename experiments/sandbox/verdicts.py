"""Verdicts kept by the content of program, test and limits: what was judged before is not run again.

Only verdicts that the program alone decides are kept: a timeout may be the machine's fault.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

from experiments.sandbox.layers import Limits
from experiments.sandbox.pool import Program, Verdict

_VERSION = 2  # raised when the grading changes
_KEPT = ("passed", "failed")
_NEAR = 0.5  # of the limit


class VerdictCache:
    """One SQLite file; safe for several processes. `path` None keeps nothing."""

    def __init__(self, path: Path | None, limits: Limits):
        self._cpu_s = limits.cpu_s
        self._limits = json.dumps([_VERSION, asdict(limits)])
        self.hits = 0
        self._database: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
            self._database.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT)")

    def get(self, program: Program) -> Verdict | None:
        if self._database is None:
            return None
        row = self._database.execute("SELECT verdict FROM verdicts WHERE key = ?", (self._key(program),)).fetchone()
        if row is None:
            return None
        self.hits += 1
        return Verdict(**json.loads(row[0]))

    def keep(self, judged: list[tuple[Program, Verdict]]) -> None:
        if self._database is None:
            return
        rows = [(self._key(one), json.dumps(asdict(verdict))) for one, verdict in judged if self._is_kept(verdict)]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", rows)

    def _is_kept(self, verdict: Verdict) -> bool:
        """Near the limit of processor time, another run may come to another verdict."""
        is_near = verdict.cpu_s is None or verdict.cpu_s > _NEAR * self._cpu_s
        return verdict.status in _KEPT and not is_near

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _key(self, program: Program) -> str:
        return hashlib.sha256(f"{self._limits}/{program.digest}".encode()).hexdigest()

"""What the programs of a shard gave, kept as each ends: the cell that merges its shards runs none of them again.

Everything is kept, timeouts too, because the files belong to one cell. Verdicts that hold for other cells are in the
verdict cache.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox import values
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.sandbox.program import Program, Verdict

_TABLE = "programs"


class KeptPrograms:
    """Verdicts and outputs in SQLite files: `own` is written and read, `others` are read."""

    def __init__(self, own: Path | None, others: Sequence[Path] = ()):
        self._own = KeptTexts(own, _TABLE)
        self._files = [self._own, *(KeptTexts(other, _TABLE) for other in others)]
        self._lock = threading.Lock()  # programs end in several threads
        self.hits = self.kept = 0

    @property
    def note(self) -> str | None:
        """What was wrong with a file; None if nothing was."""
        return next((file.note for file in self._files if file.note is not None), None)

    def verdict(self, program: Program) -> Verdict | None:
        """Return the verdict of a program; None if it is not known."""
        text = self._get(_verdict_key(program))
        return None if text is None else Verdict(**json.loads(text))

    def outputs(self, key: str) -> Outputs | None:
        """Return the outputs of calls, see `calls_key`; None if they are not known."""
        text = self._get(key)
        if text is None:
            return None
        plain = json.loads(text)
        return Outputs(**{**plain, "outputs": tuple(Output(**output) for output in plain["outputs"])})

    def keep_verdict(self, program: Program, verdict: Verdict) -> None:
        """Keep a verdict, in the file that is written."""
        self._put(_verdict_key(program), json.dumps(asdict(verdict)))

    def keep_outputs(self, key: str, outputs: Outputs) -> None:
        """Keep the outputs of calls, in the file that is written."""
        self._put(key, json.dumps(asdict(outputs)))

    def when_ended(self, program: Program, verdict: Future[Verdict]) -> None:
        """Keep the verdict of a program that runs, as soon as it has ended."""

        def keep(ended: Future[Verdict]) -> None:
            if not ended.cancelled() and ended.exception() is None:
                self.keep_verdict(program, ended.result())

        verdict.add_done_callback(keep)

    def close(self) -> None:
        """Close the files; later calls read and keep nothing."""
        for file in self._files:
            file.close()

    def _get(self, key: str) -> str | None:
        with self._lock:
            for file in self._files:
                if (text := file.get([key]).get(key)) is not None:
                    self.hits += 1
                    return text
        return None

    def _put(self, key: str, text: str) -> None:
        with self._lock:
            self.kept += 1
            self._own.put([(key, text)])


def calls_key(code: str, entry_point: str, inputs: Sequence[Sequence[object]]) -> str:
    """Return the key of the outputs of a program's function for inputs."""
    return (
        "outputs "
        + hashlib.sha256(json.dumps([code, entry_point, values.canonical(list(inputs))]).encode()).hexdigest()
    )


def _verdict_key(program: Program) -> str:
    return f"verdict {program.digest}"

"""How the process of a job ended, as a status with a reason."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.schema import Status

_WRITE_AN_END = ("measure", "shard")  # jobs that end with an event of the journal, also where they are ok


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `exit_code` is None if its process did not start or did not end.

    `cpu_s` is the CPU time of the job's process and its children. A process that crashed was last read up to half a
    second before its end. None if unknown.
    """

    status: Status
    reason: str | None
    exit_code: int | None
    cpu_s: float | None = None


def outcome_of(job: str, folder: Path, code: int | None, was_out_of_memory: bool, cpu_s: float | None) -> Outcome:
    """Return the outcome of a process that ended with an exit code; what it wrote itself is in the folder's journal."""
    if code == 0:
        endings = ("finished", "failed") if job in _WRITE_AN_END else ("failed",)
        for event in reversed(read_journal(folder / "journal.jsonl")):
            if event["event"] in endings and event.get("job", job) == job:
                return Outcome(event["status"], event["reason"], code, cpu_s)
        if job not in _WRITE_AN_END:
            return Outcome("ok", None, code, cpu_s)
        return Outcome("error", "ended without a result", code, cpu_s)
    if code == -signal.SIGKILL and was_out_of_memory:
        return Outcome("out_of_memory", "killed by the kernel, which was out of memory", code, cpu_s)
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return Outcome("crash", f"killed by {name}{hint}; see output.log", code, cpu_s)
    return Outcome("crash", f"ended with exit code {code}; see output.log", code, cpu_s)


def kernel_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 if it does not report them."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0

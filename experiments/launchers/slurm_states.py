"""What the states of Slurm's jobs mean for a unit (squeue's manual, section JOB STATE CODES)."""

from __future__ import annotations

from collections.abc import Mapping

from runtime_matrix.experiments.launchers.launcher import JobState
from runtime_matrix.experiments.records.schema import Status

_RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
_WAITING = ("PENDING", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD")
_LOST = ("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL", "PREEMPTED")
_ENDED: Mapping[str, Status] = {
    "COMPLETED": "crash",  # without an outcome
    "FAILED": "crash",
    "SPECIAL_EXIT": "crash",
    "CANCELLED": "interrupted",
    "REVOKED": "interrupted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "out_of_memory",
}


def read_states(text: str) -> dict[str, JobState]:
    """Return the states by job from lines of the form JOB|STATE|NODES|REASON, of squeue or sacct."""
    lines = [line.split("|") for line in text.splitlines()]
    return {parts[0].strip(): _state(*(part.strip() for part in parts[:4])) for parts in lines if len(parts) >= 4}


def _state(job: str, words: str, nodes: str, reason: str) -> JobState:
    name = (words.split() or [""])[0].rstrip("+")  # sacct adds who cancelled
    node = nodes if nodes and not nodes.startswith(("(", "None")) else None
    where = f"Slurm job {job}" + (f" on {node}" if node is not None else "")
    if name in _WAITING:
        return JobState("waiting", reason=reason.strip("()"), node=node)
    if name in _LOST:
        return JobState("lost", reason=f"{name}, {where}", node=node)
    if name in _ENDED:
        return JobState("ended", _ENDED[name], f"{name}, {where}", node)
    # A state of a later version: the job is not called lost before Slurm says so in known words.
    return JobState("running", reason=None if name in _RUNNING else name, node=node)

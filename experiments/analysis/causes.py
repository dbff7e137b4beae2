"""Why a cell is slower or larger than its reference: one line per cause, with the evidence. `ladder.py` has accuracy.

The profiles of both cells are taken outside the timed runs. Their shares are applied to the times that were measured,
and the cause is what grew most. What a runtime counts or declares, such as graph breaks, comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.profile import PhaseProfile, Profile
from runtime_matrix.experiments.records.row import Row

NOT_PROFILED = "not profiled"
_FEWER_THREADS = 0.75  # of the threads that the reference used
_PARALLEL = 1.3  # threads that the reference must have used; below, its work is too small to be divided
_FALLBACK_SHARE = 0.1  # of a phase
_PHASES = {  # interval of the speedup, measured time, and what it is the time of
    "decode": ("speedup_ratio", "tpot_s_p50", "a step"),
    "prefill": ("prefill_speedup_ratio", "ttft_s_p50", "the prompt"),
}
_KINDS = {  # kind of operation: name of the cause
    "products": "slower products",
    "attention": "slower attention",
    "quantization": "dequantization",
    "casts": "casts",
    "copies": "copies",
    "compiled": "slower compiled kernels",
    "elementwise": "more elementwise operations",
    "outside": "launch-bound",
}


class Cause(Struct, frozen=True, kw_only=True):
    """Why a cell is worse than its reference in one respect: `slower decode: dequantization: …`."""

    symptom: str
    cause: str
    evidence: str

    @property
    def line(self) -> str:
        """Return the cause in one line."""
        return f"{self.symptom}: {self.cause}: {self.evidence}"


@dataclass(frozen=True)
class Side:
    """A cell with its row and its profile; None if it was not profiled."""

    result: Result
    row: Row
    profile: Profile | None = None


def causes(cell: Side, reference: Side) -> list[Cause]:
    """Return why the cell is slower and larger than the reference; empty if neither is shown."""
    speed = [slower(phase, cell, reference) for phase in _PHASES if _is_shown_slower(cell.row, phase)]
    return [*speed, *([size] if (size := larger(cell, reference)) is not None else [])]


def _is_shown_slower(row: Row, phase: str) -> bool:
    interval = row.interval(_PHASES[phase][0])
    return interval is not None and interval[2] < 1


def slower(phase: str, cell: Side, reference: Side) -> Cause:
    """Return why a phase, `prefill` or `decode`, is slower than the reference's."""
    ratio = cell.row.interval(_PHASES[phase][0])
    symptom = f"slower {phase}" + (f" ({ratio[0]:.2f}× [{ratio[1]:.2f}, {ratio[2]:.2f}])" if ratio else "")
    cause, evidence = _counted(cell, reference) or _profiled(phase, cell, reference)
    return Cause(symptom=symptom, cause=cause, evidence=evidence + _moved(phase, cell, reference))


def _counted(cell: Side, reference: Side) -> tuple[str, str] | None:
    """Return a cause that the runtime counts: graphs that break, or that are compiled again while it is timed."""
    counters = _counters(cell)
    breaks = counters.get("graph_breaks", 0) - _counters(reference).get("graph_breaks", 0)
    if breaks > 0:
        return "graph breaks", f"the compiler split its graphs at {breaks} places, each of which returns to Python"
    timed, profiled = cell.row.get("timed_recompiles") or 0, cell.profile.recompiles if cell.profile else 0
    if timed or profiled:
        where = f"{timed:.0f} graphs were compiled within timed rounds" if timed else ""
        return "recompiles", where or f"{profiled} graphs were compiled after the warm-up of its profile"
    return None


def _counters(side: Side) -> Mapping[str, int]:
    entries = [entry.counters for entry in side.result.record.benchmarks if entry.counters]
    recorded = entries[-1] if entries else {}
    return {**recorded, **(side.profile.counters if side.profile else {})}


def _profiled(phase: str, cell: Side, reference: Side) -> tuple[str, str]:
    """Return the cause that the profiles of both cells show, or that there are none."""
    own = cell.profile.phases.get(phase) if cell.profile else None
    other = reference.profile.phases.get(phase) if reference.profile else None
    if own is None or other is None:
        return NOT_PROFILED, "only its profile can tell" + (f"; {cell.row.speed_note}" if cell.row.speed_note else "")
    threads = _threads(cell, own, other)
    if threads is not None:
        return threads
    if own.profiled_s is None or other.profiled_s is None:
        return "unknown", "its engine has no profiler"
    fallback = _fallback(cell, own, other)
    return fallback or _grown(phase, cell, reference, own, other)


def _threads(cell: Side, own: PhaseProfile, other: PhaseProfile) -> tuple[str, str] | None:
    assert cell.profile is not None
    used, others = own.threads_used, other.threads_used
    if used is None or others is None or others < _PARALLEL or used > _FEWER_THREADS * others:
        return None
    return (
        "fewer threads",
        f"{used:.1f} threads share its work, of {cell.profile.threads} that it was given (CPU time of all / of the "
        f"busiest); the reference's is shared by {others:.1f}",
    )


def _fallback(cell: Side, own: PhaseProfile, other: PhaseProfile) -> tuple[str, str] | None:
    """Return a fallback: nodes on another provider, or casts around operations that lack a kernel for the dtype."""
    kinds, others = own.kinds(), other.kinds()
    total, moved = sum(kinds.values()), kinds.get("fallback", 0.0)
    if moved > _FALLBACK_SHARE * total:
        return (
            "fallback",
            f"{100 * moved / total:.0f} % of its time is in nodes that another provider executes: "
            + _names(own, "fallback"),
        )
    casts, ordinary = kinds.get("casts", 0.0) / total, others.get("casts", 0.0) / sum(others.values())
    if cell.result.record.held().form != "packed" and casts - ordinary > _FALLBACK_SHARE:
        return "fallback", (
            f"{100 * casts:.0f} % of its time is in casts ({100 * ordinary:.0f} % of the reference's): "
            f"operations without a kernel for {cell.row.dtype} run in another dtype"
        )
    return None


def _grown(phase: str, cell: Side, reference: Side, own: PhaseProfile, other: PhaseProfile) -> tuple[str, str]:
    """Return the kind of operation whose time grew most over the reference's, named by what the cell declares."""
    is_timed = cell.row.interval(_PHASES[phase][0]) is not None
    mine, theirs = (_seconds(phase, side, kept, is_timed) for side, kept in ((cell, own), (reference, other)))
    growth = {kind: mine.get(kind, 0.0) - theirs.get(kind, 0.0) for kind in mine}
    held = cell.result.record.held()
    kind = max(growth, key=lambda name: growth[name])
    grown = f"{1e3 * mine[kind]:.2f} ms of {_PHASES[phase][2]}, the reference's {1e3 * theirs.get(kind, 0.0):.2f} ms"
    if not held.is_whole and kind not in ("products", "attention"):
        return "transfers", f"weights move to the device as they are needed; {_told(own, kind)} {grown}"
    if kind == "outside":
        return _KINDS[kind], f"outside its operations, in Python and dispatch, are {grown}"
    note = cell.row.dtype_note
    if note is not None and kind == "products":
        return "fallback", f"{note}; products take {grown}"
    if held.form != "dense":
        unpacking = sum(
            value
            for name, value in growth.items()
            if name in ("quantization", "products", "copies", "casts", "elementwise")
        )
        share = max(0.0, unpacking) / sum(mine.values())
        return (
            "dequantization",
            f"unpacking packed weights costs {100 * share:.0f} % of its time; {_told(own, kind)} {grown}",
        )
    return _KINDS[kind], f"{_told(own, kind)} {grown}"


def _told(profile: PhaseProfile, kind: str) -> str:
    names = _names(profile, kind)
    return f"{kind} ({names}) take" if names else "the time outside its operations is"


def _names(profile: PhaseProfile, kind: str, most: int = 2) -> str:
    return ", ".join([operation.name for operation in profile.operations if operation.kind == kind][:most])


def _seconds(phase: str, side: Side, profile: PhaseProfile, is_timed: bool) -> dict[str, float]:
    """Return the seconds by kind: shares of the profile, applied to the time that was measured without it.

    `is_timed`: the time of the launches, in which the cells took turns; else that of the profile.
    """
    kinds = profile.kinds()
    measured_s = side.row.get(_PHASES[phase][1]) if is_timed else None
    scale = (measured_s or profile.wall_s) / sum(kinds.values())
    return {kind: seconds * scale for kind, seconds in kinds.items()}


def _moved(phase: str, cell: Side, reference: Side) -> str:
    """Return the bytes that a decode step moves against its time, as shares of the copy bandwidth."""
    own, other = cell.row.get("decode_mbu_ratio"), reference.row.get("decode_mbu_ratio")
    if phase != "decode" or own is None or other is None:
        return ""
    return f"; it moves its weights at {100 * own:.0f} % of the copy bandwidth, the reference at {100 * other:.0f} %"


def larger(cell: Side, reference: Side) -> Cause | None:
    """Return which part of the peak memory grew most; None if the cell is not shown to be larger."""
    ratio = cell.row.interval("memory_ratio")
    if ratio is None or ratio[1] <= 1:
        return None
    own, other = _parts(cell), _parts(reference)
    growth = {name: own[name] - other[name] for name in own if name in other}
    symptom = f"larger ({ratio[0]:.2f}× [{ratio[1]:.2f}, {ratio[2]:.2f}])"
    if not growth or max(growth.values()) <= 0:
        return Cause(symptom=symptom, cause="unknown", evidence="its parts were not measured: add benchmark=[memory]")
    name = max(growth, key=lambda part: growth[part])
    return Cause(
        symptom=symptom,
        cause=name,
        evidence=f"{own[name] / 2**20:.1f} MiB, the reference's {other[name] / 2**20:.1f} MiB",
    )


def _parts(side: Side) -> dict[str, float]:
    """Return the bytes of the weights, of what loading takes beyond them, and of what running takes beyond loading."""
    memory, weights = side.result.record.entries().get("memory"), side.row.get("weight_bytes")
    if memory is None or weights is None:
        return {}
    load, runs = (
        memory.figure("load_peak_host_bytes"),
        [memory.figure(f"{name}_peak_host_bytes") for name in ("prefill", "decode")],
    )
    peaks = [peak for peak in runs if peak is not None]
    parts = {"weights": weights}
    if load is not None:
        parts["loading holds copies and libraries"] = max(0.0, load - weights)
        if peaks:
            parts["activations and workspace"] = max(0.0, max(peaks) - load)
    return parts

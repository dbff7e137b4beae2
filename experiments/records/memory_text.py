"""An estimate of memory in words."""

from __future__ import annotations

from runtime_matrix.experiments.records.schema import MemoryEstimate

_GIB = 2**30


def too_large(estimate: MemoryEstimate) -> str | None:
    """Return that the cell will not fit, or may not; None if it is estimated to fit, or nothing is known."""
    peak, free = estimate.cell_peak_bytes, estimate.free_bytes
    if peak is None or free is None or peak[1] <= free:
        return None
    verb = "will" if estimate.is_above_free else "may"
    return (
        f"an estimated {peak[0] / _GIB:.1f} to {peak[1] / _GIB:.1f} GiB of memory {verb} not fit: "
        f"{free / _GIB:.1f} GiB are free"
    )

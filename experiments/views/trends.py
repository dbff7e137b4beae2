"""The same cell over commits and dates on one machine, and where its level changed (PELT, Killick et al. 2012)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.views.columns import Row
from experiments.views.standing import PEAK_NOISE

# A change must stand before and after it for so long; fewer points show noise.
_SEGMENT, FEWEST = 3, 8
_SERIES = 60  # drawn on a page, those with most points
METRICS = {
    "speedup_ratio": "decode speedup",
    "tpot_s_p50": "TPOT p50, s",
    "ttft_s_p50": "TTFT p50, s",
    "peak_host_bytes": "peak, bytes",
    "mcq_accuracy": "choice accuracy",
}


def trends(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a series a cell that was measured more than once; `found` has a row a record, oldest first."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if row["status"] == "ok":
            cells.setdefault((row["config_hash"], row["machine"]), []).append(row)
    repeated = sorted((rows for rows in cells.values() if len(rows) > 1), key=len, reverse=True)
    series = [_series(rows) for rows in repeated[:_SERIES]]
    names = Counter(one["cell"] for one in series)
    for one in series:
        if names[one["cell"]] > 1:  # the same runtime with other options
            one["cell"] += f" · {one['hash'][:6]}"
    return series


def change_points(values: Sequence[float]) -> list[int]:
    """Return the indices at which a new level begins; none in fewer than 8 values, which must all be above 0."""
    if len(values) < FEWEST:
        return []
    import ruptures

    logs = np.log(np.asarray(values, dtype=float))
    noise = _noise(logs)
    if noise == 0.0:
        noise = 1e-9  # an exact value: any change is one
    # A Bayesian information criterion's penalty for a level and a place, with the noise known; thrice, since a
    # machine's noise is not independent from one run to the next.
    penalty = 3 * 2 * math.log(len(logs)) * noise**2
    found = ruptures.Pelt(model="l2", min_size=_SEGMENT, jump=1).fit(logs).predict(pen=penalty)
    return [int(index) for index in found[:-1]]


def _noise(logs: np.ndarray) -> float:
    """Return the standard deviation that neighbours show, which a change of level does not widen."""
    steps = np.abs(np.diff(logs))
    return float(np.median(steps)) / (0.6745 * math.sqrt(2))


def _series(rows: Sequence[Row]) -> dict[str, Any]:
    last = rows[-1]
    return {
        "cell": f"{last['runtime']} · {last['model']} · {last['hw']}",
        "hash": last["config_hash"],
        "processor": last["processor"],
        "at": [row["started_at"] for row in rows],
        "commit": [(row["commit"] or "")[:7] for row in rows],
        "metrics": {key: metric for key in METRICS if (metric := _metric(rows, key))},
    }


def _metric(rows: Sequence[Row], key: str) -> Mapping[str, Any] | None:
    """Return the values with change points, as indices among all values; None below two values.

    `ends` are the values' intervals, of a metric whose rows have them.
    """
    values = [row.get(key) for row in rows]
    places = [index for index, value in enumerate(values) if value is not None and value > 0]
    if len(places) < 2:
        return None
    known = [float(values[index]) for index in places]  # type: ignore[arg-type]
    changes = change_points(known)
    smallest = PEAK_NOISE if key == "peak_host_bytes" else 0.0  # repeats give the same bytes, nearly: no news yet
    steps = _steps(known, changes)
    changes = [index for index, step in zip(changes, steps, strict=True) if abs(step - 1) >= smallest]
    return {
        "values": [_short(value) for value in values],
        "ends": [[_short(row.get(f"{key}_{end}")) for end in ("low", "high")] for row in rows]
        if any(row.get(f"{key}_low") is not None for row in rows)
        else None,
        "changes": [places[index] for index in changes],
        "steps": _steps(known, changes),
    }


def _steps(known: Sequence[float], changes: Sequence[int]) -> list[float]:
    """Return each level over the one before it, by their medians."""
    edges = [0, *changes, len(known)]
    levels = [float(np.median(known[start:end])) for start, end in pairwise(edges)]
    return [float(f"{after / before:.4g}") for before, after in pairwise(levels)]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")

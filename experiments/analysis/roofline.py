"""Utilization of the hardware peak (roofline, Williams et al. 2009): MBU for decoding, MFU for prefill.

The hardware peak is measured on the same machine in the same sweep. A model that fits into the processor's cache can
exceed 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.records.schema import Load, Record

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BUSY = 0.1  # CPU share of other processes; below it a short best-of measurement is hardly affected


@dataclass(frozen=True)
class RequestShape:
    """The shape of a round of the latency benchmark; `prompt_tokens` is the mean if lengths vary."""

    batch: float
    prompt_tokens: float
    new_tokens: float


def peak_note(record: Record, bandwidth_ratio: float | None, flops_ratio: float | None) -> str | None:
    """Return a note on MBU and MFU if the peak was measured under load or a ratio exceeds 1, else None."""
    peak, notes = record.hardware_peak, []
    if peak is None or (bandwidth_ratio is None and flops_ratio is None):
        return None
    busy_ratio = max(peak.others_ratio or 0, peak.steal_ratio or 0)
    if busy_ratio > _BUSY:
        notes.append(
            f"other processes took {100 * busy_ratio:.0f} % of the CPUs while the hardware peak was measured: "
            "MBU and MFU may be too high"
        )
    if bandwidth_ratio is not None and bandwidth_ratio > 1:
        notes.append(
            f"MBU is {100 * bandwidth_ratio:.0f} % of a copy through memory: more than 100 % is possible if the "
            "processor's caches hold the weights"
        )
    if flops_ratio is not None and flops_ratio > 1:
        notes.append(
            f"MFU is {100 * flops_ratio:.0f} % of the fastest product measured: the hardware peak was measured under "
            "load, or products of the model's shapes are faster"
        )
    return "; ".join(notes) or None


def memory_bandwidth_ratio(record: Record, tpot_s: float | None, request: RequestShape | None) -> float | None:
    """Return the MBU: (weight bytes + key-value bytes read per step) / time / measured bandwidth; None if unknown.

    The embedding is not counted, as a lookup reads few rows, unless it is tied to the head.
    """
    shape, load, peak = record.model.shape, record.load, record.hardware_peak
    if not (shape and load and peak and tpot_s and load.weight_bytes and request and peak.copy_bytes_per_s):
        return None
    return _step_bytes(shape, load, load.weight_bytes, request) / tpot_s / peak.copy_bytes_per_s


def flops_ratio(record: Record, tokens_per_s: float | None) -> float | None:
    """Return the MFU: prefill operations per second / measured peak in the dtype; None if unknown or packed.

    Two operations per weight and token, without the embedding and the head, which is applied to one position.
    """
    shape, load, peak = record.model.shape, record.load, record.hardware_peak
    if not (shape and load and peak and tokens_per_s and load.weight_bytes and _is_dense(record)):
        return None
    rate = peak.flops_per_s.get(load.dtype)
    return 2 * _layer_weights(shape, load.weight_bytes, load.dtype) * tokens_per_s / rate if rate else None


def positions(
    record: Record,
    ttft_s: float | None,
    tpot_s: float | None,
    request: RequestShape,
    full: Record | None = None,
) -> dict[str, tuple[float, float]]:
    """Return (operations / byte, operations / s) for `prefill` and `decode`, as far as known.

    Bytes are the minimum to move: the weights once as they are held, and the keys and values read or written.
    Operations are the model's. For packed weights they come from `full`, a record that holds all of its weights.
    """
    shape, load = record.model.shape, record.load
    weights = next((count for other in (record, full) if (count := _dense_weights(other)) is not None), None)
    if weights is None or shape is None or load is None or not _is_known(load) or not record.held().is_whole:
        return {}
    held_bytes = load.weight_bytes or 0
    head = shape.vocabulary * shape.hidden
    points = {}
    if tpot_s:
        operations = 2.0 * (weights + head) * request.batch
        points["decode"] = (operations / _step_bytes(shape, load, held_bytes, request), operations / tpot_s)
    if ttft_s:
        operations = 2.0 * (weights * request.prompt_tokens + head) * request.batch
        bytes_moved = _step_bytes(shape, load, held_bytes, RequestShape(request.batch, request.prompt_tokens, 0))
        points["prefill"] = (operations / bytes_moved, operations / ttft_s)
    return points


def _is_known(load: Load) -> bool:
    return bool(load.weight_bytes) and load.dtype in _BYTES


def _is_dense(record: Record) -> bool:
    held = record.held()
    return held.is_dense and held.is_whole


def _dense_weights(record: Record | None) -> float | None:
    """Return the number of weights in the layers; None for a record that does not hold all of them."""
    if record is None or record.model.shape is None or record.load is None:
        return None
    if not (_is_dense(record) and _is_known(record.load)):
        return None
    return _layer_weights(record.model.shape, record.load.weight_bytes or 0, record.load.dtype)


def _layer_weights(shape: ModelShape, weight_bytes: int, dtype: str) -> float:
    tables = shape.vocabulary * shape.hidden * (1 if shape.is_tied else 2)
    return weight_bytes / _BYTES[dtype] - tables


def _step_bytes(shape: ModelShape, load: Load, weight_bytes: int, request: RequestShape) -> float:
    width = _BYTES[load.dtype]
    embedding = 0 if shape.is_tied else shape.vocabulary * shape.hidden * width
    held = request.prompt_tokens + request.new_tokens / 2  # on average
    per_token = load.kv_bytes_per_token or 2 * shape.layers * shape.kv_heads * shape.head_width * width
    return weight_bytes - embedding + per_token * held * request.batch

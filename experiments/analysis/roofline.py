"""Which share of what the machine can do a cell reached (Williams et al. 2009): MBU for decoding, MFU for prefill.

The denominators, the hardware peak, are measured on the same machine in the same sweep. A model that lies in the
processor's cache can exceed 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.records.schema import Load, Record

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BUSY = 0.1  # share of the CPUs' time: with less taken by others, a short best-of is hardly lower


@dataclass(frozen=True)
class RequestShape:
    """The work of a round of the latency benchmark; `prompt_tokens` are the mean where they vary."""

    batch: float
    prompt_tokens: float
    new_tokens: float


def peak_note(record: Record, bandwidth_ratio: float | None, flops_ratio: float | None) -> str | None:
    """Return how to read the shares of the hardware peak, where it was measured under load or a share exceeds 1."""
    peak, said = record.hardware_peak, []
    if peak is None or (bandwidth_ratio is None and flops_ratio is None):
        return None
    taken = max(peak.others_ratio or 0, peak.steal_ratio or 0)
    if taken > _BUSY:
        said.append(
            f"others took {100 * taken:.0f} % of the CPUs while the hardware peak was measured: "
            "MBU and MFU may be too high"
        )
    if bandwidth_ratio is not None and bandwidth_ratio > 1:
        said.append(
            f"MBU is {100 * bandwidth_ratio:.0f} % of a copy through memory: more than 100 % is possible where the "
            "processor's caches hold the weights"
        )
    if flops_ratio is not None and flops_ratio > 1:
        said.append(
            f"MFU is {100 * flops_ratio:.0f} % of the fastest product measured: the hardware peak was measured under "
            "load, or products of the model's shapes are faster"
        )
    return "; ".join(said) or None


def memory_bandwidth_ratio(record: Record, tpot_s: float | None, request: RequestShape | None) -> float | None:
    """Return (weight bytes + key-value bytes read for a step) / time / measured bandwidth; None where one is unknown.

    The embedding is looked up, not read, unless it is the head as well.
    """
    shape, load, peak = record.model.shape, record.load, record.hardware_peak
    if not (shape and load and peak and tpot_s and load.weight_bytes and request and peak.copy_bytes_per_s):
        return None
    return _step_bytes(shape, load, load.weight_bytes, request) / tpot_s / peak.copy_bytes_per_s


def flops_ratio(record: Record, tokens_per_s: float | None) -> float | None:
    """Return prefill's products / measured rate of the same dtype; None where one is unknown, as for packed weights.

    Two operations a weight and token, the embedding and the head left out: it is applied to one position.
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
    """Return (operations / byte, operations / s) of `prefill` and `decode`, where both are known.

    Bytes are those that must move at least: the weights once, as they are held, and the keys and values that are read
    or written. Operations are the model's: where weights are packed, they are counted in `full`, a record of the same
    model that holds all of them.
    """
    shape, load = record.model.shape, record.load
    weights = next((count for other in (record, full) if (count := _dense_weights(other)) is not None), None)
    if weights is None or shape is None or load is None or not _is_known(load) or not record.held().is_whole:
        return {}
    held_bytes = load.weight_bytes or 0
    head = shape.vocabulary * shape.hidden
    found = {}
    if tpot_s:
        operations = 2.0 * (weights + head) * request.batch
        found["decode"] = (operations / _step_bytes(shape, load, held_bytes, request), operations / tpot_s)
    if ttft_s:
        operations = 2.0 * (weights * request.prompt_tokens + head) * request.batch
        moved = _step_bytes(shape, load, held_bytes, RequestShape(request.batch, request.prompt_tokens, 0))
        found["prefill"] = (operations / moved, operations / ttft_s)
    return found


def _is_known(load: Load) -> bool:
    return bool(load.weight_bytes) and load.dtype in _BYTES


def _is_dense(record: Record) -> bool:
    held = record.held()
    return held.is_dense and held.is_whole


def _dense_weights(record: Record | None) -> float | None:
    """Return the number of weights of the layers; None for a record that does not hold all of them."""
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
    kv = 2 * shape.layers * shape.kv_heads * shape.head_width * width * held * request.batch
    return weight_bytes - embedding + kv

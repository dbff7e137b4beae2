"""Which share of what the machine can do a cell reached (Williams et al. 2009): MBU for decoding, MFU for prefill.

The denominators, the hardware peak, are measured on the same machine in the same sweep. A model that lies in the
processor's cache can exceed 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BUSY = 0.1  # share of the CPUs' time: with less taken by others, a short best-of is hardly lower


def hardware_peak(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the machine could do at most, as it was measured beside the cell; None where it was not."""
    found: Mapping[str, Any] | None = record.get("hardware_peak") or record.get("ceiling")  # its earlier name
    return found


def peak_note(record: Mapping[str, Any], bandwidth_ratio: float | None, flops_ratio: float | None) -> str | None:
    """Return how to read the shares of the hardware peak, where it was measured under load or a share exceeds 1."""
    peak, said = hardware_peak(record), []
    if peak is None or (bandwidth_ratio is None and flops_ratio is None):
        return None
    taken = max(peak.get("others_ratio") or 0, peak.get("steal_ratio") or 0)
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


def memory_bandwidth_ratio(
    record: Mapping[str, Any], tpot_s: float | None, parameters: Mapping[str, Any]
) -> float | None:
    """Return (weight bytes + key-value bytes read for a step) / time / measured bandwidth; None where one is unknown.

    The embedding is looked up, not read, unless it is the head as well. `parameters` are the latency benchmark's.
    """
    shape, load, peak = record["model"].get("shape"), record["load"] or {}, hardware_peak(record)
    if not (shape and peak and tpot_s and load.get("weight_bytes")):
        return None
    return float(_step_bytes(shape, load, parameters) / tpot_s / peak["copy_bytes_per_s"])


def flops_ratio(record: Mapping[str, Any], tokens_per_s: float | None) -> float | None:
    """Return prefill's products / measured rate of the same dtype; None where one is unknown, as for packed weights.

    Two operations a weight and token, the embedding and the head left out: it is applied to one position.
    """
    shape, load, peak = record["model"].get("shape"), record["load"] or {}, hardware_peak(record)
    if not (shape and peak and tokens_per_s and load.get("weight_bytes") and _is_dense(record)):
        return None
    rate = peak["flops_per_s"].get(load["dtype"])
    return float(2 * _layer_weights(shape, load) * tokens_per_s / rate) if rate else None


def positions(
    record: Mapping[str, Any],
    ttft_s: float | None,
    tpot_s: float | None,
    parameters: Mapping[str, Any],
    full: Mapping[str, Any] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return (operations / byte, operations / s) of `prefill` and `decode`, where both are known.

    Bytes are those that must move at least: the weights once, as they are held, and the keys and values that are read
    or written. Operations are the model's: where weights are packed, they are counted in `full`, a record of the same
    model that holds all of them.
    """
    shape, load = record["model"].get("shape"), record["load"] or {}
    counted = next((one for one in (record, full) if one is not None and _is_dense(one) and _is_known(one)), None)
    if counted is None or not (shape and _is_known(record)) or record["runtime"]["placement"] != "device":
        return {}
    batch, prompt = parameters["batch"], parameters["prompt_tokens"]
    weights, head = _layer_weights(shape, counted["load"]), shape["vocabulary"] * shape["hidden"]
    found = {}
    if tpot_s:
        operations = 2.0 * (weights + head) * batch
        found["decode"] = (operations / _step_bytes(shape, load, parameters), operations / tpot_s)
    if ttft_s:
        operations = 2.0 * (weights * prompt + head) * batch
        moved = _step_bytes(shape, load, {"batch": batch, "prompt_tokens": prompt, "new_tokens": 0})
        found["prefill"] = (operations / moved, operations / ttft_s)
    return found


def _is_known(record: Mapping[str, Any]) -> bool:
    load = record["load"] or {}
    return bool(load.get("weight_bytes") and load.get("dtype") in _BYTES)


def _is_dense(record: Mapping[str, Any]) -> bool:
    return bool(record["runtime"]["weights"] == "full" and record["runtime"]["placement"] == "device")


def _layer_weights(shape: Mapping[str, Any], load: Mapping[str, Any]) -> float:
    tables = shape["vocabulary"] * shape["hidden"] * (1 if shape["is_tied"] else 2)
    return float(load["weight_bytes"] / _BYTES[load["dtype"]] - tables)


def _step_bytes(shape: Mapping[str, Any], load: Mapping[str, Any], parameters: Mapping[str, Any]) -> float:
    width = _BYTES[load["dtype"]]
    embedding = 0 if shape["is_tied"] else shape["vocabulary"] * shape["hidden"] * width
    held = parameters["prompt_tokens"] + parameters["new_tokens"] / 2  # on average
    kv = 2 * shape["layers"] * shape["kv_heads"] * shape["head_width"] * width * held * parameters["batch"]
    return float(load["weight_bytes"] - embedding + kv)

"""The settings that a hardware profile recommends, as overrides: `hw.apply=true` adds them to the user's words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject

_SEVERAL = "balanced"  # a placement over several devices, whose memory it takes as a limit for each


def recommended_words(config: JsonObject, given: Sequence[str], of_experiment: Collection[str] = ()) -> list[str]:
    """Return the overrides that the profile of a composed configuration recommends.

    Left out is what the words `given` or the experiment's keys `of_experiment` set, what the runtime's preset chooses
    itself, and what its engine has no option for. UserError for a profile that recommends nothing.
    """
    hw, runtime = config["hw"], config["runtime"]
    recommended = hw["recommended"]
    if not any(value is not None for value in recommended.values()):
        raise UserError(
            f"hw.apply=true: hw={hw['name']} recommends no settings: name a profile that does, such as hw=t4, or leave "
            "it out"
        )
    keys = [*(word.lstrip("+~").partition("=")[0] for word in given), *of_experiment]
    words = {
        "runtime.dtype": recommended["dtype"],
        "runtime/weights": recommended["weights"] if _is_default(runtime, "weights", "full") else None,
        "runtime/placement": recommended.get("placement") if _is_default(runtime, "placement", "device") else None,
        "runtime.engine.attention": recommended.get("attention") if "attention" in runtime["engine"] else None,
        "batch_size": recommended["batch"],
        "model.max_tokens": recommended["max_tokens"],
    }
    chosen = {key: value for key, value in words.items() if value is not None and not _is_set(key, keys)}
    if chosen.get("runtime/weights") == runtime["weights"]["name"]:
        del chosen["runtime/weights"]
    if "runtime/placement" in chosen and recommended["max_memory_gib"] is not None:
        chosen["runtime.placement.max_memory"] = _each_device(hw["requires"]["devices"], recommended["max_memory_gib"])
    return [f"{key}={value}" for key, value in chosen.items()]


def _is_default(runtime: JsonObject, part: str, default: str) -> bool:
    """Return whether the runtime's preset leaves a part as it is by default."""
    return bool(runtime[part]["name"] == default)


def _is_set(key: str, given: Sequence[str]) -> bool:
    """Return whether the user sets a key or a part of it; a batch is also an option of benchmarks."""
    dotted = key.replace("/", ".")
    others = [other.replace("/", ".") for other in given]
    if key == "batch_size" and any(other.startswith("benchmark.") and other.endswith(".batch") for other in others):
        return True
    return any(other == dotted or other.startswith(f"{dotted}.") for other in others)


def _each_device(devices: int, gib: float) -> str:
    return "{" + ", ".join(f"{index}: {gib:g}" for index in range(devices)) + "}"


def set_keys(content: Any, prefix: str = "") -> list[str]:
    """Return the keys that an experiment's file sets, with the groups that its defaults choose."""
    keys: list[str] = []
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == "defaults" and not prefix:
            keys += [
                name.removeprefix("override ").lstrip("/") for one in value if isinstance(one, dict) for name in one
            ]
        elif isinstance(value, dict):
            keys += set_keys(value, f"{prefix}{key}.")
        else:
            keys.append(f"{prefix}{key}")
    return keys

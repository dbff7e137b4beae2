"""Hand `model.max_tokens` down to the benchmarks whose options are lengths, and check what it leaves no room for."""

from __future__ import annotations

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject

_OPTION = "window"  # of benchmarks that score a text in windows; the smaller limit counts
_FEWEST_CHECKED = 8  # tokens of a row of the agreement check, which also computes its last two tokens one by one


def with_length_limit(resolved: JsonObject, config: CellConfig) -> JsonObject:
    """Return the configuration with windows of at most `model.max_tokens` tokens."""
    limit = config.model.max_tokens
    if limit is None:
        return resolved
    benchmarks = {
        name: {**resolved["benchmark"][name], _OPTION: min(getattr(options, _OPTION), limit)}
        for name, options in config.benchmark.options.items()
        if hasattr(options, _OPTION)
    }
    return {**resolved, "benchmark": {**resolved["benchmark"], **benchmarks}}


def without_moot_limit(resolved: JsonObject, config: CellConfig, length: int | None) -> JsonObject:
    """Return the configuration without a limit that a profile recommends and the model's own length is below."""
    word = f"model.max_tokens={config.model.max_tokens}"
    if word not in config.hw.applied or length is None or length >= (config.model.max_tokens or 0):
        return resolved
    applied = [other for other in config.hw.applied if other != word]
    return {
        **resolved,
        "model": {**resolved["model"], "max_tokens": None},
        "hw": {**resolved["hw"], "applied": applied},
    }


def check_length_limit(config: CellConfig) -> None:
    """Raise UserError if `model.max_tokens` leaves no room for the agreement check or for timed rounds."""
    limit, comparison = config.model.max_tokens, config.comparison
    if limit is None:
        return
    if config.agreement.enabled and limit < _FEWEST_CHECKED:
        raise UserError(
            f"model.max_tokens={limit} is too short for the agreement check: use at least {_FEWEST_CHECKED}, or set "
            "agreement.enabled=false"
        )
    prompt, new = max(comparison.prompt_tokens), max(comparison.new_tokens, comparison.long_new_tokens or 0)
    if comparison.enabled and prompt + new > limit:
        raise UserError(
            f"timed rounds of {prompt} prompt + {new} new tokens exceed model.max_tokens={limit}: lower "
            "comparison.prompt_tokens or comparison.new_tokens, or set comparison.enabled=false"
        )

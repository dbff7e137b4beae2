"""Reads records of earlier schema versions: one migration step per version."""

from __future__ import annotations

from collections.abc import Callable

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.renamed import with_new_options
from runtime_matrix.experiments.records.schema import SCHEMA_VERSION, Record, typed

_FIRST_BENCHMARK_VERSION = 1  # version of the benchmarks in records without versions


def read_record(content: object) -> Record:
    """Return the record in parsed JSON, migrated if it is older; ValueError in one line if it cannot be read."""
    if not isinstance(content, dict) or "schema_version" not in content:
        raise ValueError("foreign: not a record of this program")
    version = content["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(f"schema {version}, this program reads up to {SCHEMA_VERSION}: update the program")
    while version < SCHEMA_VERSION:
        step = _STEPS.get(version)
        if step is None:
            raise ValueError(f"older schema {version}, which this program cannot migrate: measure again")
        try:
            content, version = step(content), version + 1
        except (AttributeError, TypeError, ValueError) as error:  # a part has another type
            raise ValueError(f"damaged: {error}") from error
    try:
        return typed({**_renamed(content), "schema_version": SCHEMA_VERSION}, Record)
    except ValueError as error:
        raise ValueError(f"damaged: {error}") from error


def _renamed(content: JsonObject) -> JsonObject:
    """Return a record whose configuration has today's option names."""
    config = content.get("config")
    if not isinstance(config, dict):
        return content
    sections = {key: with_new_options(key, value) for key, value in config.items() if isinstance(value, dict)}
    return {**content, "config": {**config, **sections}}


def _from_1(content: JsonObject) -> JsonObject:
    """Migrate from schema 1: `hardware_peak` was called `ceiling` at first, and benchmarks had no versions."""
    jobs = dict(content.get("jobs") or {})
    if "ceiling" in jobs:
        jobs["hardware_peak"] = jobs.pop("ceiling")
    config = content.get("config")
    benchmarks = (config.get("benchmark") if isinstance(config, dict) else None) or {}
    versions = {name: _FIRST_BENCHMARK_VERSION for name, options in benchmarks.items() if options is not None}
    return {
        **content,
        "jobs": jobs,
        "hardware_peak": content.get("hardware_peak") or content.get("ceiling"),
        "benchmark_versions": content.get("benchmark_versions") or versions,
    }


_STEPS: dict[int, Callable[[JsonObject], JsonObject]] = {1: _from_1}

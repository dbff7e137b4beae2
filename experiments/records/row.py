"""One typed row of the matrix. Units are in the names; None is unknown."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime_matrix.experiments.records.audit import AuditVerdict
from runtime_matrix.experiments.records.schema import NO_STRATEGY, Status

Figures = dict[str, float | None]  # the figures of a row, by key
StartKind = Literal["cold", "warm", "plain"]
Source = Literal["interleaved", "alone"]


class Row(Struct, frozen=True, kw_only=True):
    """One row of the matrix. Figures are read by key: `row["speedup_ratio"]`; KeyError for an unknown key."""

    run_id: Annotated[str, Meta(description="Identifies the sweep.")]
    record_id: Annotated[str, Meta(description="Name of the record's folder in results_dir.")]
    started_at: Annotated[str, Meta(description="Start of the measurement in UTC, ISO 8601.")]
    runtime: Annotated[str, Meta(description="Name of the runtime: an engine with weights and a placement.")]
    engine: Annotated[str, Meta(description="The engine that executes the model.")]
    weights: Annotated[str, Meta(description="The format of the weights.")]
    placement: Annotated[str, Meta(description="Where the layers are placed.")]
    dtype: Annotated[str, Meta(description="The dtype that the engine computes in.")]
    model: Annotated[str, Meta(description="Name of the model, the same for all cells of a run.")]
    model_title: Annotated[str, Meta(description="Kind, number of parameters and name of the model.")]
    model_digest: Annotated[str, Meta(description="Digest of the model's files.")]
    hw: Annotated[str, Meta(description="The hardware profile.")]
    threads: Annotated[int, Meta(description="Number of threads, the same for every runtime.")]
    machine: Annotated[
        str, Meta(description="Digest of host, processor, instruction sets, cores, memory, limits and profile.")
    ]
    config_hash: Annotated[str, Meta(description="Digest of what the cell measures, the same over commits and dates.")]
    command: Annotated[str, Meta(description="The command that measures this cell again.")]
    is_reference: Annotated[bool, Meta(description="Whether other rows are compared with this one.")]
    status: Annotated[Status, Meta(description="How the cell ended.")]
    reason: Annotated[str | None, Meta(description="Why the status is not ok.")] = None
    adapter: Annotated[str | None, Meta(description="Name of the LoRA adapter over the model.")] = None
    base_digest: Annotated[str | None, Meta(description="Digest of the model without its adapter.")] = None
    variant: Annotated[
        str | None, Meta(description="What distinguishes the row from others of the same runtime, model and hardware.")
    ] = None
    strategy: Annotated[
        str, Meta(description="How programs were arrived at; rows of different strategies are not compared.")
    ] = NO_STRATEGY
    processor: Annotated[str | None, Meta(description="Name of the processor as the system reports it.")] = None
    machine_description: Annotated[
        str | None, Meta(description="Processor, cores, widest vectors and their limits.")
    ] = None
    commit: Annotated[str | None, Meta(description="Commit of this program.")] = None
    against: Annotated[str | None, Meta(description="The record_id that answers were compared with.")] = None
    latency_source: Annotated[
        Source | None,
        Meta(description="interleaved: times from interleaved launches; alone: times of the cell by itself."),
    ] = None
    price_source: Annotated[
        Source | None,
        Meta(description="interleaved: rate of the interleaved batches; alone: rate of the offline benchmark."),
    ] = None
    start_kind: Annotated[
        StartKind | None,
        Meta(
            description="cold: something was built or compiled; warm: everything built was found in the cache; "
            "plain: nothing to build."
        ),
    ] = None
    dtype_note: Annotated[str | None, Meta(description="Rate of matrix products where the dtype is emulated.")] = None
    speedup_reason: Annotated[str | None, Meta(description="Why there is no speedup.")] = None
    cpu_speedup_reason: Annotated[str | None, Meta(description="Why CPU time does not represent the cell's speed.")] = (
        None
    )
    speed_note: Annotated[
        str | None, Meta(description="Why wall time and CPU time disagree beyond both intervals.")
    ] = None
    peak_note: Annotated[
        str | None,
        Meta(description="How to read shares of the hardware peak that exceed 100 % or were measured under load."),
    ] = None
    energy_reason: Annotated[str | None, Meta(description="Why the energy is unknown.")] = None
    sandbox_note: Annotated[
        str | None, Meta(description="What the sandbox did not prevent generated programs from doing.")
    ] = None
    cache_note: Annotated[str | None, Meta(description="What was wrong with cached responses or verdicts.")] = None
    judge_note: Annotated[str | None, Meta(description="How many items have no verdict of the judge, and why.")] = None
    answers_note: Annotated[str | None, Meta(description="Why answers have no score, and where they are.")] = None
    shards_note: Annotated[
        str | None, Meta(description="Whether shards were interrupted, ran on different machines, or lacked responses.")
    ] = None
    second_try_note: Annotated[
        str | None, Meta(description="What was halved after a first try of the cell ran out of memory.")
    ] = None
    expected_note: Annotated[
        str | None, Meta(description="What a document expects on the hardware profile, and what was measured there.")
    ] = None
    audit: Annotated[
        AuditVerdict | None,
        Meta(description="fail: the timed work is not the requested work; pass: every check of the audit passed."),
    ] = None
    audit_note: Annotated[str | None, Meta(description="What failed in the audit, or was not checked and why.")] = None
    figures: Figures = {}

    def __getitem__(self, key: str) -> float | None:
        return self.figures[key]

    def get(self, key: str) -> float | None:
        """Return a figure; None where it is unknown or there is no such key."""
        return self.figures.get(key)

    def interval(self, key: str) -> tuple[float, float, float] | None:
        """Return (figure, low, high); None if any of them is unknown."""
        return interval_in(self.figures, key)

    def flat(self) -> dict[str, str | float | bool | None]:
        """Return the row as it is published: its fields and figures in one dictionary."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "figures"}
        return {**own, **self.figures}


def interval_in(figures: Figures, key: str) -> tuple[float, float, float] | None:
    """Return (figure, low, high); None if any of them is unknown."""
    value, low, high = (figures.get(f"{key}{end}") for end in ("", "_low", "_high"))
    return None if value is None or low is None or high is None else (value, low, high)

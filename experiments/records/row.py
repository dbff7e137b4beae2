"""One row of the matrix, typed. Units are in the names; None is unknown."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime_matrix.experiments.records.schema import Status

Figures = dict[str, float | None]  # of a row, by key
StartKind = Literal["cold", "warm", "plain"]
Source = Literal["interleaved", "alone"]


class Row(Struct, frozen=True, kw_only=True):
    """One row of the matrix. Figures are read by their key: `row["speedup_ratio"]`; KeyError for an unknown one."""

    run_id: Annotated[str, Meta(description="The sweep.")]
    record_id: Annotated[str, Meta(description="The folder below results_dir.")]
    started_at: Annotated[str, Meta(description="UTC, ISO 8601.")]
    runtime: Annotated[str, Meta(description="Engine over weights in a placement.")]
    engine: Annotated[str, Meta(description="How it is executed.")]
    weights: Annotated[str, Meta(description="How weights are held.")]
    placement: Annotated[str, Meta(description="Where layers lie.")]
    dtype: Annotated[str, Meta(description="What the engine computes in.")]
    model: Annotated[str, Meta(description="The model that every cell of a run shares.")]
    model_title: Annotated[str, Meta(description="What the model is: kind, parameters, name.")]
    model_digest: Annotated[str, Meta(description="Of the model's files.")]
    hw: Annotated[str, Meta(description="The hardware profile.")]
    threads: Annotated[int, Meta(description="Given to every runtime alike.")]
    machine: Annotated[
        str, Meta(description="Digest of host, processor, instruction sets, cores, memory, limits and profile.")
    ]
    config_hash: Annotated[str, Meta(description="Of what the cell measures: the same over commits and dates.")]
    command: Annotated[str, Meta(description="Measures this cell again.")]
    is_reference: Annotated[bool, Meta(description="What others are compared with.")]
    status: Annotated[Status, Meta(description="What became of the cell.")]
    reason: Annotated[str | None, Meta(description="Why the status is not ok.")] = None
    variant: Annotated[
        str | None, Meta(description="What tells the row from others of the same runtime, model and hardware.")
    ] = None
    processor: Annotated[str | None, Meta(description="As the machine calls it.")] = None
    machine_description: Annotated[
        str | None, Meta(description="Processor, cores, widest vectors and what limits them.")
    ] = None
    commit: Annotated[str | None, Meta(description="Of this program.")] = None
    against: Annotated[str | None, Meta(description="The record that answers were compared with.")] = None
    latency_source: Annotated[
        Source | None,
        Meta(description="interleaved: times of launches in which cells took turns; alone: of the cell by itself."),
    ] = None
    price_source: Annotated[
        Source | None,
        Meta(description="interleaved: from the rate of the interleaved batches; alone: of the offline benchmark."),
    ] = None
    start_kind: Annotated[
        StartKind | None,
        Meta(
            description="cold: something was built or compiled; warm: all of that was found in the cache; plain: "
            "nothing to build."
        ),
    ] = None
    dtype_note: Annotated[str | None, Meta(description="Where products in the dtype are emulated: at which rate.")] = (
        None
    )
    speedup_reason: Annotated[str | None, Meta(description="Why there is no speedup.")] = None
    cpu_speedup_reason: Annotated[str | None, Meta(description="Why CPU time does not stand for the cell's speed.")] = (
        None
    )
    speed_note: Annotated[
        str | None, Meta(description="Why wall time and CPU time disagree beyond both intervals.")
    ] = None
    peak_note: Annotated[
        str | None,
        Meta(
            description="How to read the shares of the hardware peak, where they are above 100 % or it was under load."
        ),
    ] = None
    energy_reason: Annotated[str | None, Meta(description="Why no energy is known.")] = None
    sandbox_note: Annotated[str | None, Meta(description="What the machine did not keep generated programs from.")] = (
        None
    )
    cache_note: Annotated[str | None, Meta(description="What was wrong with kept answers or verdicts.")] = None
    figures: Figures = {}

    def __getitem__(self, key: str) -> float | None:
        return self.figures[key]

    def get(self, key: str) -> float | None:
        return self.figures.get(key)

    def interval(self, key: str) -> tuple[float, float, float] | None:
        """Return a figure with its bounds; None where one of them is unknown."""
        return interval_in(self.figures, key)

    def flat(self) -> dict[str, str | float | bool | None]:
        """Return the row as it is published: its own fields and its figures side by side."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "figures"}
        return {**own, **self.figures}


def interval_in(figures: Figures, key: str) -> tuple[float, float, float] | None:
    """Return a figure with its bounds; None where one of them is unknown."""
    value, low, high = (figures.get(f"{key}{end}") for end in ("", "_low", "_high"))
    return None if value is None or low is None or high is None else (value, low, high)

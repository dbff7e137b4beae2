"""The claims of others in `conf/claims/`, one file per document. docs/claims.md explains their fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from runtime_matrix.experiments.config.compose import CLAIMS, CONF, read_option
from runtime_matrix.experiments.config.errors import UserError, did_you_mean

FACTOR = "×"
Quantity = Literal["time", "memory", "score", "money", "rate"]
Direction = Literal["gain", "loss", "none", "level"]
ClockName = Literal["cpu", "wall", "memory"]


class MeasuredBy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figure that measures a claim: a switch of the ablation, two cells, two figures of a cell, or one figure."""

    switch: str | None = None
    clock: ClockName = "cpu"  # of the switch; memory: by its peak
    figure: str | None = None  # key in the row
    cell: str | None = None  # a runtime, or RUNTIME/DTYPE
    model: str | None = None  # as the row names it, such as bundled; None: any
    adapter: str | None = None  # name of the adapter that the cell has; None: with or without
    over: str | None = None  # the cell that `cell` is compared with
    over_figure: str | None = None  # the figure of the same row that `figure` is divided by
    scale: float = 1.0  # from the figure's unit to the claim's

    def __post_init__(self) -> None:
        if (self.switch is None) == (self.figure is None):
            raise ValueError("needs a switch or a figure")
        if self.switch is not None and (self.cell or self.over or self.over_figure):
            raise ValueError("a switch has neither cells nor figures")
        if self.over is not None and (self.cell is None or self.over_figure is not None):
            raise ValueError("`over` needs `cell`, and no over_figure")

    @property
    def phrase(self) -> str:
        """Return what is compared, for a table."""
        if self.switch is not None:
            return f"switch {self.switch}" + (", peak memory" if self.clock == "memory" else "")
        parts = [f"{self.figure}" + (f" over {self.over_figure}" if self.over_figure else "")]
        parts += [f"adapter {self.adapter}" if self.adapter else ""]
        parts += [self.cell or ""] + ([f"over {self.over}"] if self.over else [])
        return " ".join(part for part in parts if part)


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure that a document claims.

    A factor says how much better the figure becomes: old / new for time, memory and money, new / old for scores and
    rates. Below 1 it is a loss. Claims of a level have a unit instead.
    """

    id: str
    section: str
    summary: str  # in our words
    quantity: Quantity
    direction: Direction
    unit: str = FACTOR
    low: float | None = None  # None: no lower bound
    high: float | None = None  # None: no upper bound
    claimed: str | None = None  # for claims without a figure, such as "instant"
    baseline: str | None = None  # as stated
    hardware: str | None = None  # as stated
    measured_by: MeasuredBy | None = None
    unmeasured: str | None = None  # why
    other_baseline: str | None = None  # ours, where it is not the stated one
    note: str | None = None
    document: str = ""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(f"{self.id}: {problem}")

    @property
    def has_figure(self) -> bool:
        """Return whether the document gives a figure."""
        return self.low is not None or self.high is not None

    @property
    def is_factor(self) -> bool:
        """Return whether the claim is a factor between two figures, and not the level of one."""
        return self.direction != "level"


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    document: str
    claims: list[Claim]


def _problems(claim: Claim) -> Iterable[str]:
    if (claim.measured_by is None) == (claim.unmeasured is None):
        yield "needs measured_by or unmeasured"
    if claim.other_baseline is not None and claim.measured_by is None:
        yield "other_baseline needs measured_by"
    if claim.has_figure == (claim.claimed is not None):
        yield "needs low, high, or claimed"
    if claim.is_factor != (claim.unit == FACTOR):
        yield "a level has a unit, and a factor has none"
    low, high = claim.low, claim.high
    if low is not None and high is not None and low > high:
        yield "low is above high"
    if claim.direction == "gain" and low is not None and low < 1:
        yield "a gain is a factor of at least 1"
    if claim.direction == "loss" and (high is None or high > 1):
        yield "a loss is a factor of at most 1"
    if claim.direction == "none" and (low, high) != (1, 1):
        yield "no change is the factor 1"


@cache
def read_claims(folder: Path = CONF / CLAIMS) -> tuple[Claim, ...]:
    """Return the claims of all documents in a folder. UserError for a file that is not of this form."""
    claims: list[Claim] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = msgspec.convert(read_option(path), _Document)
        except ValueError as error:
            raise UserError(f"{path} is not a file of claims: {error}") from error
        claims += [msgspec.structs.replace(claim, document=document.document) for claim in document.claims]
    return tuple(claims)


def chosen(claims: Sequence[Claim], ids: Sequence[str]) -> list[Claim]:
    """Return the claims with these ids, or all if there are none; UserError for an unknown id."""
    known = {claim.id for claim in claims}
    for name in ids:
        if name not in known:
            raise UserError(f"{name} is not the id of a claim{did_you_mean(name, known)}")
    return [claim for claim in claims if not ids or claim.id in ids]

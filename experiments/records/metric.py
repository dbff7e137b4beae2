"""A metric: a figure of the matrix, where it comes from, and how it is shown, compared and gated.

A benchmark declares its metrics in its own file (`tasks/`); what is computed from launches, prices and several
benchmarks is declared beside its computation in `records/`. Columns, schemas, marks and pages are derived from these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.descriptive import percentile

UNKNOWN = "n/a"
AT = "@"  # between a figure's key and the grid point that it is of: tpot_s_p50@b8-p64-n32
_LARGE = 1e4  # from here on three digits are shown: nobody measures more of a rate
Group = Literal["cell", "start", "latency", "throughput", "speed", "memory", "answers", "agreement", "cost"]
GROUPS: tuple[Group, ...] = (
    *("cell", "start", "latency", "throughput", "speed", "memory", "answers", "agreement", "cost"),
)
Better = Literal["high", "low", ""]
Display = Callable[[Row, str], str]  # of a row and a key
Reader = Callable[[Entry], float | None]


def number(pattern: str = "{:.3f}", factor: float = 1.0) -> Display:
    """Show a figure, multiplied by `factor`."""

    def show(row: Row, key: str) -> str:
        value = row.get(key)
        return UNKNOWN if value is None else _formatted(value * factor, pattern)

    return show


def with_error(digits: int) -> Display:
    """Show a figure with its standard error, which lies under the key that `standard_error` names."""

    def show(row: Row, key: str) -> str:
        value, error = row.get(key), row.get(error_key(key))
        if value is None:
            return UNKNOWN
        pattern = f"{{:.{digits}f}}"
        return _formatted(value, pattern) + ("" if error is None else f" ± {_formatted(error, pattern)}")

    return show


def with_interval(pattern: str) -> Display:
    """Show a figure with its interval where it has one."""

    def show(row: Row, key: str) -> str:
        value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is None:
            return UNKNOWN
        shown = _formatted(value, pattern)
        has_width = low is not None and high is not None and low < high
        if not has_width or low is None or high is None:
            return shown
        return f"{shown} [{_formatted(low, pattern)}, {_formatted(high, pattern)}]"

    return show


def with_bound(factor: float = 100.0) -> Display:
    """Show a share with its upper bound: none of n items leaves something open."""

    def show(row: Row, key: str) -> str:
        share, bound = row.get(key), row.get(f"{key}_high")
        if share is None:
            return UNKNOWN
        return f"{factor * share:.1f} %" + ("" if bound is None else f" (≤ {factor * bound:.1f})")

    return show


def milliseconds(row: Row, key: str) -> str:
    """Show a time in ms, marked where the cell was measured alone, as every grid point but the first is."""
    seconds = row.get(key)
    if seconds is None:
        return UNKNOWN
    is_alone = row.latency_source == "alone" or AT in key
    return f"{seconds * 1e3:.2f}{' alone' if is_alone else ''}"


def _formatted(value: float, pattern: str) -> str:
    """Return a number as the pattern says, with three digits where it is large."""
    if abs(value) >= _LARGE:
        value = float(f"{value:.3g}")
    return pattern.format(value)


_PLAIN = number()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a row. `rank`: where there is no room, columns with the highest leave first."""

    key: str  # of the row: its unit is in the name
    title: str  # of its column; empty: in rows and files, and no column
    group: Group = "answers"
    about: str = ""  # in one sentence or two
    unit: str = ""
    better: Better = ""
    rank: int = 7
    display: Display = _PLAIN
    read: Reader | None = None  # from the benchmark's entry; None: `records/` computes it
    error: str = ""  # the figure of the entry that is its standard error
    is_number: bool = True
    is_warning: bool = False  # a column only where some row has another value than 0
    smallest_step: float | None = None  # in trends: the share by which a level must change to be reported
    trend: str = ""  # its title among trends; empty: not drawn there
    stand_in: str = ""  # key of the metric that is shown instead where the two are equal in every row
    about_as_stand_in: str = ""  # of such a metric, where it takes the other's place
    benchmark: str = ""  # the title of its benchmark; the registry fills it in

    @property
    def header(self) -> str:
        return f"{self.title} {self.unit}".strip()

    def show(self, row: Row) -> str:
        """Return the text of the row's cell."""
        return self.display(row, self.key)

    def figures(self, entry: Entry | None) -> dict[str, float | None]:
        """Return what the entry says of this metric, by key of the row; None where there is no entry."""
        if self.read is None:
            return {}
        found = {self.key: self.read(entry) if entry is not None else None}
        if self.error:
            found[error_key(self.key)] = entry.figure(self.error) if entry is not None else None
        return found

    def at(self, point: str) -> Metric:
        """Return the same metric of another grid point of its benchmark."""
        about = f"{self.about} Of the grid point {point}, by the cell alone."
        title = f"{self.title} at {point}" if self.title else ""
        return replace(self, key=f"{self.key}{AT}{point}", title=title, about=about, rank=8, better="", trend="")


def error_key(key: str) -> str:
    """Return the key of a figure's standard error: behind the figure's own, and of a mean in its place."""
    base, at, point = key.partition(AT)
    return f"{base.removesuffix('_mean')}_standard_error{at}{point}"


def hidden(key: str, read: Reader) -> Metric:
    """Return a metric that stands in rows and files and is no column."""
    return Metric(key=key, title="", read=read)


def figure(name: str) -> Reader:
    """Read a figure of the entry."""
    return lambda entry: entry.figure(name)


def part(name: str, key: str) -> Reader:
    """Read one part of a figure that is a table."""
    return lambda entry: entry.table(name).get(key)


def quotient(name: str, of: str) -> Reader:
    """Read one figure over another; None where either is unknown, or the other is 0."""

    def read(entry: Entry) -> float | None:
        value, whole = entry.figure(name), entry.figure(of)
        return value / whole if value is not None and whole else None

    return read


def percentile_of(samples: str, percent: float) -> Reader:
    """Read a percentile of samples; None where they are too few to support it."""
    return lambda entry: percentile(entry.samples.get(samples, []), percent)

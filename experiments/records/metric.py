"""A metric: a figure of the matrix, its source, and how it is shown, compared and gated.

A benchmark declares its metrics in its own file in `tasks/`. Metrics from launches, prices or several benchmarks are
declared next to their computation in `analysis/`. Columns, schemas, marks and pages are derived from metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.descriptive import percentile

UNKNOWN = "n/a"
AT = "@"  # separates a figure's key from its grid point: tpot_s_p50@b8-p64-n32
_LARGE = 1e4  # from here on three significant digits are shown, the precision of a rate
NOT_INTERLEAVED = "The cells ran one after the other: an order of magnitude, not a comparison."
Group = Literal["cell", "start", "latency", "throughput", "serving", "speed", "memory", "answers", "agreement", "cost"]
GROUPS: tuple[Group, ...] = get_args(Group)
Better = Literal["high", "low", ""]
Display = Callable[[Row, str], str]  # (row, key) to text
Reader = Callable[[Entry], float | None]


def number(pattern: str = "{:.3f}", factor: float = 1.0) -> Display:
    """Show a figure multiplied by `factor`."""

    def show(row: Row, key: str) -> str:
        value = row.get(key)
        return UNKNOWN if value is None else _formatted(value * factor, pattern)

    return show


def with_error(digits: int) -> Display:
    """Show a figure with its standard error, the figure under `error_key(key)`."""

    def show(row: Row, key: str) -> str:
        value, error = row.get(key), row.get(error_key(key))
        if value is None:
            return UNKNOWN
        pattern = f"{{:.{digits}f}}"
        return _formatted(value, pattern) + ("" if error is None else f" ± {_formatted(error, pattern)}")

    return show


def with_interval(pattern: str, factor: float = 1.0) -> Display:
    """Show a figure multiplied by `factor`, with its interval if it has one."""

    def show(row: Row, key: str) -> str:
        value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is None:
            return UNKNOWN
        shown = _formatted(value * factor, pattern)
        if low is None or high is None or low >= high:
            return shown
        return f"{shown} [{_formatted(low * factor, pattern)}, {_formatted(high * factor, pattern)}]"

    return show


def with_bound(factor: float = 100.0) -> Display:
    """Show a share in percent with its upper bound, since 0 of n items does not prove 0."""

    def show(row: Row, key: str) -> str:
        share, bound = row.get(key), row.get(f"{key}_high")
        if share is None:
            return UNKNOWN
        return f"{factor * share:.1f} %" + ("" if bound is None else f" (≤ {factor * bound:.1f})")

    return show


def milliseconds(row: Row, key: str) -> str:
    """Show a time in ms, marked `alone` if it was not interleaved, like all grid points but the first."""
    seconds = row.get(key)
    if seconds is None:
        return UNKNOWN
    is_alone = row.latency_source == "alone" or AT in key
    return f"{seconds * 1e3:.2f}{' alone' if is_alone else ''}"


def _formatted(value: float, pattern: str) -> str:
    """Return the formatted number, rounded to three significant digits if it is large."""
    if abs(value) >= _LARGE:
        value = float(f"{value:.3g}")
    return pattern.format(value)


_PLAIN = number()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a row. In narrow tables, columns with the highest `rank` are dropped first."""

    key: str  # key in the row; its name contains the unit
    title: str  # title of its column; empty: in rows and files only
    group: Group = "answers"
    about: str = ""  # one or two sentences
    unit: str = ""
    better: Better = ""
    rank: int = 7
    display: Display = _PLAIN
    read: Reader | None = None  # reads the benchmark's entry; None: computed in `analysis/`
    error: str = ""  # name of the entry's figure that is its standard error
    noise_ratio: float | None = None  # half of the relative difference at which two values differ; 0: they are exact
    noise_floor: float = 0.0  # the least half-difference, in the metric's unit
    is_of_machine: bool = False  # compared on one machine only
    is_number: bool = True
    is_warning: bool = False  # a column only if some row has a value other than 0
    smallest_step: float | None = None  # smallest relative change that trends report
    trend: str = ""  # title in trends; empty: not drawn there
    stand_in: str = ""  # key of the metric shown instead if both are equal in every row
    about_as_stand_in: str = ""  # `about` of a metric shown as a stand-in
    benchmark: str = ""  # title of its benchmark, set by the registry

    @property
    def header(self) -> str:
        """Return the column's title with its unit."""
        return f"{self.title} {self.unit}".strip()

    def show(self, row: Row) -> str:
        """Return the text of the table cell."""
        return self.display(row, self.key)

    def figures(self, entry: Entry | None) -> dict[str, float | None]:
        """Return the row's figures of this metric, with its standard error; None values without an entry."""
        if self.read is None:
            return {}
        figures_by_key = {self.key: self.read(entry) if entry is not None else None}
        if self.error:
            figures_by_key[error_key(self.key)] = entry.figure(self.error) if entry is not None else None
        return figures_by_key

    def at(self, point: str) -> Metric:
        """Return the same metric of another grid point of its benchmark."""
        about = f"{self.about} At grid point {point}, not interleaved."
        title = f"{self.title} at {point}" if self.title else ""
        return replace(self, key=f"{self.key}{AT}{point}", title=title, about=about, rank=8, better="", trend="")


def error_key(key: str) -> str:
    """Return the key of a figure's standard error: the key with a suffix, which replaces `_mean`."""
    base, at, point = key.partition(AT)
    return f"{base.removesuffix('_mean')}_standard_error{at}{point}"


def hidden(key: str, read: Reader) -> Metric:
    """Return a metric for rows and files only, without a column."""
    return Metric(key=key, title="", read=read)


def figure(name: str) -> Reader:
    """Return a reader of a figure of the entry."""
    return lambda entry: entry.figure(name)


def part(name: str, key: str) -> Reader:
    """Return a reader of one part of a figure that is a table."""
    return lambda entry: entry.table(name).get(key)


def quotient(name: str, of: str) -> Reader:
    """Return a reader of one figure divided by another; None if either is unknown or the divisor is 0."""

    def read(entry: Entry) -> float | None:
        value, whole = entry.figure(name), entry.figure(of)
        return value / whole if value is not None and whole else None

    return read


def percentile_of(samples: str, percent: float) -> Reader:
    """Return a reader of a percentile of samples; None if there are too few to support it."""
    return lambda entry: percentile(entry.samples.get(samples, []), percent)

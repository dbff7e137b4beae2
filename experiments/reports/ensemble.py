"""Ensembles of recorded cells as plain lines: scores, the correlation of errors, and the sum of costs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.analysis.ensemble import Ensemble, Rule, combine
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.paired_outputs import read_items
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.metric import UNKNOWN
from runtime_matrix.experiments.records.schema import Entry, Record
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.tasks.registry import scores

Cells = Mapping[str, Result]  # by name
_PEAKS = ("peak_host_bytes", "load_peak_host_bytes")
_MOST_NAMED = 4
_RULES: Mapping[Rule, str] = {"vote": "majority vote", "logprob": "mean log-probability"}


@dataclass(frozen=True)
class Cost:
    """What a cell's answers cost. None is unknown."""

    tokens: float | None  # generated, or scored
    wall_s: float | None
    memory_bytes: float | None


def named_cells(words: Sequence[str], folder: Path, flag: str = "--ensemble") -> dict[str, Result]:
    """Return the latest records of the named cells. UserError for a name that fits none, several, or a cell twice.

    A name is a folder of one cell, or in `folder` a runtime, RUNTIME-MODEL, the name of a record, or the end of its
    RUNTIME-MODEL-HARDWARE-STRATEGY-JUDGE.
    """
    if len(words) < 2:
        raise UserError(f"{flag} needs at least two cells, as in {flag} eager onnxruntime")
    cells: dict[str, Result] = {}
    for word in words:
        result = _named_cell(word, folder)
        name = _shortest(result.record, cells) if Path(word).is_dir() else word
        if any(other.record.record_id == result.record.record_id for other in cells.values()):
            raise UserError(f"{word} names a cell that {flag} has already: {result.record.record_id}")
        cells[name] = result
    return cells


def _named_cell(word: str, folder: Path) -> Result:
    is_folder = Path(word).is_dir()
    known = _latest(Path(word) if is_folder else folder)
    fitting = [result for result in known if is_folder or _is_named(word, result.record)]
    if not fitting:
        names = sorted({name for result in known for name in _names(result.record)[:-1]})
        raise UserError(f"{folder} has no cell {word}{did_you_mean(word, names)}")
    if len(fitting) > 1:
        counts = Counter(name for result in known for name in _names(result.record))
        unique = [next(name for name in _names(result.record) if counts[name] == 1) for result in fitting]
        more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
        raise UserError(f"{word} names {len(fitting)} cells; name one of {', '.join(unique[:_MOST_NAMED])}{more}")
    return fitting[0]


def ensemble_lines(cells: Cells, rule: Rule) -> tuple[list[str], list[str]]:
    """Return the lines of each benchmark that all cells have, and why others could not be combined.

    UserError if none could be.
    """
    lines: list[str] = []
    refused: list[str] = []
    entries = {name: result.record.entries() for name, result in cells.items()}
    for benchmark, score in scores().items():
        own = {name: found[benchmark] for name, found in entries.items() if benchmark in found}
        if not score.kind.has_answers or len(own) < len(cells):
            continue
        try:
            ensemble = _combined(benchmark, cells, own, rule)
        except UserError as error:
            refused.append(str(error))
        else:
            costs = {name: cost(cells[name].record, entry) for name, entry in own.items()}
            lines += [*_lines(benchmark, ensemble, rule, score.scale), *_costs(costs, ensemble.best.name), ""]
    if not lines:
        raise UserError("; ".join(refused) or f"{', '.join(cells)} have no common benchmark with answers")
    return lines[:-1], refused


def cost(record: Record, entry: Entry) -> Cost:
    """Return what the answers of an entry cost; the time is unknown where responses came from the cache."""
    peaks = [_number(other, name) for other in record.entries().values() for name in _PEAKS]
    if record.load is not None:
        peaks.append(record.load.peak_host_bytes)
    return Cost(
        _tokens(entry),
        None if _number(entry, "cached_responses") else entry.duration_s,
        max((peak for peak in peaks if peak is not None), default=None),
    )


def _tokens(entry: Entry) -> float | None:
    """Return the generated tokens, of a strategy all of them, or the scored ones."""
    per_problem, problems = _number(entry, "new_tokens_per_problem"), _number(entry, "items")
    if per_problem is not None and problems is not None:
        return per_problem * problems
    generated = _number(entry, "new_tokens")
    return generated if generated is not None else _number(entry, "asked_tokens")


def _number(entry: Entry, name: str) -> float | None:
    value = entry.figures.get(name)
    return value if isinstance(value, int | float) else None  # a damaged figure is unknown


def _combined(benchmark: str, cells: Cells, entries: Mapping[str, Entry], rule: Rule) -> Ensemble:
    versions = {cells[name].record.benchmark_versions.get(benchmark, 1) for name in entries}
    given = [entry.parameters.get("language") for entry in entries.values()]
    languages = {None if language is None else str(language) for language in given}
    for what, values in (("versions of the benchmark", versions), ("languages", languages)):
        if len(values) > 1:
            raise UserError(f"{benchmark}: the cells have different {what}: {', '.join(map(str, values))}")
    items = {}
    for name, entry in entries.items():
        if entry.items_file is None:
            raise UserError(f"{benchmark}: {name} recorded no items")
        if entry.why_unscored:
            raise UserError(f"{benchmark}: {name} has no scores to combine: {entry.why_unscored}")
        path = cells[name].folder / Path(entry.items_file).name  # never outside the cell's folder
        try:
            items[name] = read_items(path, benchmark)
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{benchmark}: {path} cannot be read: {error}; measure the cell again") from error
    return combine(benchmark, items, rule, next(iter(languages)))


def _lines(benchmark: str, ensemble: Ensemble, rule: Rule, scale: float) -> Iterator[str]:
    items = len(ensemble.members[0].items)
    digits = 3 if scale == 1 else 1
    width = max(len("ensemble"), *(len(member.name) for member in ensemble.members))
    yield f"{benchmark}, {items:,} items, {_RULES[rule]} of {len(ensemble.members)} cells:"
    for member in ensemble.members:
        yield f"  {member.name:{width}}  {scale * member.score:.{digits}f}"
    change = _change(ensemble.difference, scale, digits)
    against = f"against {ensemble.best.name}, the best on these very items"
    yield f"  {'ensemble':{width}}  {scale * ensemble.score:.{digits}f}, {change} {against}"
    if ensemble.at_least_one is not None:
        yield f"  at least one member is right: {ensemble.at_least_one:.3f}"
    if ensemble.ties:
        yield f"  {_count(ensemble.ties, 'item is', 'items are')} tied: the answer of the first of these members counts"
    if ensemble.unlike_scores:
        yield f"  {_count(ensemble.unlike_scores, 'item has', 'items have')} the same answer with different scores"
    pairs = [
        f"{first} and {second} {UNKNOWN if value is None else f'{value:.2f}'}"
        for (first, second), value in ensemble.correlations.items()
    ]
    yield f"  correlation of errors{' (phi)' if ensemble.at_least_one is not None else ''}: {'; '.join(pairs)}"


def _change(change: Interval | None, scale: float, digits: int) -> str:
    if change is None:
        return "too few items to compare it"
    estimate, low, high = (
        f"{scale * value + 0.0:+.{digits}f}" for value in (change.estimate, change.low, change.high)
    )  # + 0.0: no negative zero
    return f"{estimate} [{low}, {high}]"


def _costs(costs: Mapping[str, Cost], best: str) -> Iterator[str]:
    """Yield the sum of each cost and its ratio to that of the best member."""
    parts = []
    for name, unit, scale, digits in (
        ("tokens", "tokens", 1, 0),
        ("wall_s", "s", 1, 2),
        ("memory_bytes", "MiB", 2**20, 0),
    ):
        values = {member: getattr(cost, name) for member, cost in costs.items()}
        if None in values.values():
            parts.append(f"{UNKNOWN} {unit}")
            continue
        total = sum(values.values())
        ratio = f" ({total / values[best]:.2f}×)" if values[best] else ""
        parts.append(f"{total / scale:,.{digits}f} {unit}{ratio}")
    yield f"  cost of all, and over {best}'s alone: {', '.join(parts)}"


def _latest(folder: Path) -> list[Result]:
    """Return the latest record of each cell of a folder."""
    results, _ = read(folder)
    by_record = {result.record.record_id: result for result in results}
    return [by_record[row.record_id] for row in rows(results)]


def _names(record: Record) -> tuple[str, ...]:
    """Return the names by which a cell can be chosen."""
    label = record.record_id.removeprefix(f"{record.run_id}-")
    label = re.sub(r"^\d\d-|-[0-9a-f]{6}$", "", label)  # the cell's place in its sweep, and its configuration's hash
    names = record.runtime.name, f"{record.runtime.name}-{record.model.name}", label, record.record_id
    return tuple(dict.fromkeys(names))


def _is_named(word: str, record: Record) -> bool:
    """Return whether a word is one of the cell's names or ends one, such as that of its strategy."""
    return word in _names(record) or _names(record)[-2].endswith(f"-{word}")


def _shortest(record: Record, taken: Mapping[str, object]) -> str:
    """Return the shortest name of a cell that no other member has."""
    return next((name for name in _names(record) if name not in taken), record.record_id)


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"

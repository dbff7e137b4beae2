"""Two judges compared as plain lines: their agreement on the answers that both judged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Entry, typed
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.raters import kappa, rank_correlation


class Line(Struct, frozen=True, kw_only=True):
    """What is read of one line of a file of verdicts; other fields are ignored."""

    id: str
    answer: str
    score: float | None
    says_right: bool | None = None


Verdicts = Mapping[str, Line]  # by id


def judges_lines(cells: Mapping[str, Result]) -> list[str]:
    """Return the lines of each benchmark whose answers both cells have judged. UserError if there is none."""
    (first, one), (second, other) = cells.items()
    entries, others = one.record.entries(), other.record.entries()
    lines: list[str] = []
    for benchmark, entry in entries.items():
        if (
            benchmark in others
            and "verdicts_file" in entry.parameters
            and "verdicts_file" in others[benchmark].parameters
        ):
            lines += _lines(benchmark, first, _read(one, entry), second, _read(other, others[benchmark]))
    if not lines:
        raise UserError(f"{first} and {second} have no benchmark whose answers both judged: measure with judge=NAME")
    return lines


def _lines(benchmark: str, first: str, one: Verdicts, second: str, other: Verdicts) -> Iterator[str]:
    """Yield the agreement on equal answers; verdicts on different answers say nothing of the judges."""
    shared = [name for name in one if name in other and one[name].answer == other[name].answer]
    different = len(one.keys() & other.keys()) - len(shared)
    pairs = [(one[name].score, other[name].score) for name in shared]
    scores = [(score, against) for score, against in pairs if score is not None and against is not None]
    says = [(one[name].says_right, other[name].says_right) for name in shared]
    words = [(say, against) for say, against in says if say is not None and against is not None]
    interval = kappa([a for a, _ in words], [b for _, b in words]) if words else None
    yield f"{benchmark}, {_answers(len(scores))} that both judged: κ {_shown(interval)}"
    if words:
        yield f"  right or wrong alike: {sum(a == b for a, b in words)} of {len(words)}"
        for judge, sees in ((first, [a for a, _ in words]), (second, [b for _, b in words])):
            yield f"  {judge} says right: {sum(sees)} of {len(words)}"
    if scores:
        ranks = rank_correlation([a for a, _ in scores], [b for _, b in scores])
        yield f"  mean scores {_mean(scores, 0):.3f} and {_mean(scores, 1):.3f}, rank correlation {_shown(ranks)}"
    if len(shared) > len(scores):
        yield f"  {_answers(len(shared) - len(scores))} without a verdict of one or both"
    if different:
        yield f"  {different} items left out: the answers differ"


def _read(result: Result, entry: Entry) -> Verdicts:
    """Return the verdicts of an entry. UserError for a file that is missing or damaged."""
    path = result.folder / Path(str(entry.parameters["verdicts_file"])).name  # never outside the cell's folder
    try:
        with path.open(encoding="utf-8") as file:
            lines = [typed(json.loads(line), Line) for line in file]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; measure the cell again") from error
    return {line.id: line for line in lines}


def _answers(count: int) -> str:
    return f"{count:,} {'answer' if count == 1 else 'answers'}"


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "n/a"
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _mean(pairs: list[tuple[float, float]], at: int) -> float:
    return sum(pair[at] for pair in pairs) / len(pairs)

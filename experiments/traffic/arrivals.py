"""When requests arrive and how long they are: seeded, or read from a trace. Times are in seconds, sizes in tokens."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime_matrix.experiments.config.errors import UserError

Arrivals = Literal["poisson", "constant", "gamma"]
Lengths = Literal["uniform", "lognormal"]
_MOST_LINES = 1_000_000
_TAIL = 1.2816  # standard normal 90 % quantile


@dataclass(frozen=True)
class Size:
    """The size of a request: tokens of its prompt, and new tokens."""

    prompt_tokens: int
    new_tokens: int
    at_s: float | None = None  # of a trace: when it arrives


def arrival_times(kind: Arrivals, rate: float, count: int, burstiness: float, source: random.Random) -> list[float]:
    """Return the arrival times of `count` requests at `rate` per second, the first one at 0.

    `poisson`: exponential gaps. `gamma`: gaps of the same mean with the shape `burstiness`; below 1 requests come in
    bursts, 1 is Poisson. `constant`: equal gaps.
    """
    draw: dict[Arrivals, Callable[[], float]] = {
        "poisson": lambda: source.expovariate(rate),
        "gamma": lambda: source.gammavariate(burstiness, 1 / (rate * burstiness)),
        "constant": lambda: 1 / rate,
    }
    times = [0.0]
    while len(times) < count:
        times.append(times[-1] + draw[kind]())
    return times


def draw_sizes(
    kind: Lengths, prompt_tokens: Sequence[int], new_tokens: Sequence[int], count: int, source: random.Random
) -> list[Size]:
    """Return sizes between the smallest and the largest of each range.

    `lognormal`: the median is the geometric mean of the ends, and nine of ten lengths are below the largest; the rest
    is cut to it.
    """
    draw = _uniform if kind == "uniform" else _lognormal
    return [Size(draw(prompt_tokens, source), draw(new_tokens, source)) for _ in range(count)]


def read_trace(path: Path, count: int) -> list[Size]:
    """Return the first `count` requests of a trace: JSON lines with prompt_tokens, new_tokens and, optionally, at_s.

    UserError in one line for a file that is no such trace.
    """
    sizes: list[Size] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if len(sizes) == count or number > _MOST_LINES:
                    break
                if line.strip():
                    sizes.append(_size(json.loads(line)))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f'{path}, line {number}: expected {{"prompt_tokens": 12, "new_tokens": 5, "at_s": 0.25}} ({error})'
        ) from error
    if not sizes:
        raise UserError(f"{path} has no requests")
    timed = [size.at_s for size in sizes if size.at_s is not None]
    if timed and (len(timed) < len(sizes) or timed != sorted(timed)):
        raise UserError(f"{path}: at_s must be in each line, in ascending order, or in none")
    return sizes


def _size(line: object) -> Size:
    if not isinstance(line, dict):
        raise ValueError("a line is no object")
    prompt, new, at_s = line["prompt_tokens"], line["new_tokens"], line.get("at_s")
    if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in (prompt, new)):
        raise ValueError("token counts must be positive whole numbers")
    is_time = isinstance(at_s, int | float) and not isinstance(at_s, bool) and math.isfinite(at_s) and at_s >= 0
    if at_s is not None and not is_time:
        raise ValueError("at_s must be a number of seconds")
    return Size(prompt, new, None if at_s is None else float(at_s))


def _uniform(ends: Sequence[int], source: random.Random) -> int:
    return source.randint(min(ends), max(ends))


def _lognormal(ends: Sequence[int], source: random.Random) -> int:
    low, high = min(ends), max(ends)
    middle, sigma = (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / 2 / _TAIL
    return min(high, max(low, round(math.exp(source.gauss(middle, sigma)))))

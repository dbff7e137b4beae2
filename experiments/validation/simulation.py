"""Error rates of the rules: launches and answers are drawn at known losses and judged by the gates' own functions.

  python -m experiments.validation.simulation                    prints a Markdown table; a minute or two on one core
  python -m experiments.validation.simulation --output FILE      also writes it to a file
  python -m experiments.validation.simulation --quick            few draws, as a smoke test

Nothing is measured. Each figure has its value under the earlier rules in front. The draws are the same in each run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.analysis.trends import change_points
from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.axes import speedup
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.statistics.sequential import Look, look
from runtime_matrix.experiments.validation import simulated_answers
from runtime_matrix.experiments.validation.simulation_table import Figure, header, row

Drawn = np.random.Generator
Draw = Callable[[Drawn, int], NDArray[np.float64]]  # source and number of values → values
_NOISES = (0.01, 0.02)
_BUILD = 0.01  # standard deviation of speed between builds of the same code
# Percent of series without a change that the earlier rules flagged: quoted from an audit, not drawn here.
_QUOTED_TRENDS = {"independent": "1 to 4", "correlated by 0.5": "18 to 27", "peaks 58, 58, 59, 74 MiB": "21 to 65"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the simulated error rates, and write them with --output. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few draws")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args(argv)
    text = "\n".join(page(100 if options.quick else 3000)) + "\n"
    print(text)
    if options.output is not None:
        write_atomic(options.output, text)
    return 0


def page(draws: int) -> Iterator[str]:
    """Yield the Markdown lines of the page; `draws` per figure."""
    yield "# How often the rules err"
    yield ""
    yield f"Drawn by `python -m experiments.validation.simulation`, {draws:,} draws per figure; percent, before → now."
    yield "Figures that miss their target are **bold**, those of 0.71 if they miss it by more than chance."
    yield f"0.00 means less than {300 / draws:.2f} with 95 % confidence."
    for name in ("ci", "speed"):
        gate: GateConfig = build(GateConfig, compose_gate(name, []), "gate")
        yield from ("", *_speed(gate, draws))
    yield from simulated_answers.sections(draws)
    yield from ("", *_trends(draws))


def _speed(gate: GateConfig, draws: int) -> Iterator[str]:
    yield f"## Speed: gate `{gate.name}`, {100 * gate.indifferent:g} % does not matter, {100 * gate.must_find:g} % does"
    yield ""
    yield "A fail is measured once more, with new builds; *twice* is what is then reported. Before: a tolerance of 4 %."
    yield ""
    yield from header(
        "launches",
        "noise",
        "equal cells fail, ≤ 0.1",
        "equal, builds vary by 1 %: fail twice, ≤ 0.1",
        f"{100 * gate.indifferent:g} % slower: fail, ≤ 1",
        "twice, ≤ 1",
        f"{100 * gate.must_find:g} % slower: fail, ≥ 95",
        "twice",
        "pass, ≤ 1",
        "inconclusive",
        "launches used, equal",
    )
    for kind, draw in _LAUNCHES.items():
        for noise in _NOISES:
            equal, small, large = (
                _gates(gate, draw, noise, math.log1p(slower), 0.0, draws)
                for slower in (0.0, gate.indifferent, gate.must_find)
            )
            varied = _gates(gate, draw, noise, 0.0, _BUILD, draws)
            yield row(
                kind,
                f"{100 * noise:g} %",
                _share(equal, "fail", most=0.1),
                _share(varied, "fail", most=0.1, is_twice=True),
                _share(small, "fail", most=1.0),
                _share(small, "fail", most=1.0, is_twice=True),
                _share(large, "fail", least=95.0),
                _share(large, "fail", is_twice=True),
                _share(large, "pass", most=1.0),
                _share(large, "inconclusive"),
                f"{np.mean([interim.launches for interim in equal[1]]):.1f}",
            )


def _gates(
    gate: GateConfig, draw: Draw, noise: float, slower: float, build_sd: float, draws: int
) -> tuple[list[Look], list[Look]]:
    """Return the verdicts of the earlier and the present rule on the same launches, with the mean loss `slower`."""
    drawn, before, now = np.random.default_rng(1), [], []
    limit = speedup.REFERENCE.launch_limits(gate[speedup.REFERENCE], gate, None, 0.99)[0]
    rule, interval = limit.rule, limit.interval
    for _ in range(draws):
        centre = slower + build_sd * math.sqrt(2) * drawn.standard_normal()  # the builds of both cells
        losses = (centre + noise * draw(drawn, rule.looks[-1])).tolist()
        before.append(_look_before(losses, rule.looks))
        now.append(look(losses, rule, interval))
    return before, now


def _look_before(losses: Sequence[float], looks: Sequence[int]) -> Look:
    """Judge by the earlier rule: a significant loss above half of the tolerance of 4 % fails."""
    tolerance, level, undecided = math.log1p(0.04), 1 - 2 * 0.01 / len(looks), Look("inconclusive", None, looks[-1])
    for count in looks:
        interval = mean_interval(losses[:count], level)
        assert interval is not None
        if interval.low > 0 and interval.estimate > tolerance / 2:
            return Look("fail", interval, count)
        if interval.high < tolerance and interval.estimate < tolerance / 2:
            return Look("pass", interval, count)
    return undecided


def _share(
    pair: tuple[list[Look], list[Look]],
    verdict: str,
    most: float | None = None,
    least: float | None = None,
    is_twice: bool = False,
) -> Figure:
    power = 2 if is_twice else 1
    before, now = (100 * (sum(interim.verdict == verdict for interim in looks) / len(looks)) ** power for looks in pair)
    return Figure(before, now, most, least)


def _trends(draws: int) -> Iterator[str]:
    yield "## Trends"
    yield ""
    yield "Series without change that are flagged, ≤ 1 (before: quoted from an audit), and steps of 5 % in noise of 1 %"
    yield "that are found within a point of their place, ≥ 80."
    yield ""
    yield from header(
        "noise", "before", *(f"{n} points" for n in _POINTS), "step in the middle of 20, found", "4 before the end"
    )
    for kind, draw in _SERIES.items():
        flagged = [
            Figure(None, _flagged(draw, n, draws // 2), most=1.0 + 100 * 2 * math.sqrt(0.005 / draws)) for n in _POINTS
        ]
        steps_found = [
            "" if draw is _peaks else Figure(None, _found(draw, at, draws // 10), least=80.0) for at in (10, 16)
        ]
        yield row(kind, _QUOTED_TRENDS[kind], *flagged, *steps_found)


def _flagged(draw: Draw, n: int, draws: int) -> float:
    drawn = np.random.default_rng(5)
    return 100 * float(np.mean([bool(change_points(np.exp(0.01 * draw(drawn, n)).tolist())) for _ in range(draws)]))


def _found(draw: Draw, change_index: int, draws: int) -> float:
    drawn, step = np.random.default_rng(6), np.where(np.arange(20) < change_index, 0.0, math.log(1.05))
    series = [np.exp(0.01 * draw(drawn, 20) + step).tolist() for _ in range(draws)]
    return 100 * float(
        np.mean([any(abs(place - change_index) <= 1 for place in change_points(values, 0.02)) for values in series])
    )


def _normal(drawn: Drawn, n: int) -> NDArray[np.float64]:
    return drawn.standard_normal(n)


def _contaminated(drawn: Drawn, n: int) -> NDArray[np.float64]:
    """Return values with a standard deviation of 1, one in ten of them with four times the spread of the others."""
    scale: NDArray[np.float64] = np.where(drawn.random(n) < 0.1, 4.0, 1.0) / math.sqrt(2.5)
    return drawn.standard_normal(n) * scale


def _t3(drawn: Drawn, n: int) -> NDArray[np.float64]:
    return drawn.standard_t(3, n) / math.sqrt(3)


def _correlated(lag_1: float) -> Draw:
    def draw(drawn: Drawn, n: int) -> NDArray[np.float64]:
        values = drawn.standard_normal(n)
        for index in range(1, n):
            values[index] = lag_1 * values[index - 1] + math.sqrt(1 - lag_1**2) * values[index]
        return values

    return draw


def _peaks(drawn: Drawn, n: int) -> NDArray[np.float64]:
    peaks: NDArray[np.float64] = drawn.choice([58.0, 58.0, 59.0, 74.0], n)
    return 100 * np.log(peaks)


_LAUNCHES: dict[str, Draw] = {
    "normal": _normal,
    "contaminated normal": _contaminated,
    "t, 3 degrees": _t3,
    "AR(1), 0.3": _correlated(0.3),
}
_SERIES: dict[str, Draw] = {
    "independent": _normal,
    "correlated by 0.5": _correlated(0.5),
    "peaks 58, 58, 59, 74 MiB": _peaks,
}
_POINTS = (8, 12, 20, 40)


if __name__ == "__main__":
    sys.exit(main())

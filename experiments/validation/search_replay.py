"""Replay searches on a recorded grid: how near the exhaustive optimum they end, for which share of its CPU time.

  python -m experiments.run experiment=search_grid results_dir=FOLDER
  python -m experiments.validation.search_replay FOLDER

Constraint sets are drawn with a seed. Trials are subsets of the launches and items of the recorded cells. Random search
and Optuna's TPE, if it is installed, measure whole cells with the CPU time of the search. Writes replay.json there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from runtime_matrix.experiments.advice.choose import GIB, Constraints
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.searching.policy import best, dropped
from runtime_matrix.experiments.searching.request import GOALS
from runtime_matrix.experiments.validation.search_grid import GridCell, breaks, grid_of, observed

LEVELS = ((25, 2), (100, 4), (None, None))  # items and launches so far, as `search` has them
NEAR = 0.02
_FILE = "replay.json"


@dataclass(frozen=True)
class Ending:
    """The cell that a strategy returned, and its CPU seconds."""

    cell: GridCell | None
    cpu_s: float


def replay_search(cells: Sequence[GridCell], request: Constraints) -> Ending:
    """Return what `search` would have returned, by its own policy."""
    left, spent, known, before = list(cells), 0.0, 0, 0
    seen = []
    for items, launches in LEVELS:
        new = None if launches is None else launches - before
        measured = left if any(cell.is_reference for cell in left) else [cells[0], *left]
        for cell in measured:
            extra = len(cell.launches) - before if new is None else new
            spent += cell.cost_s(items, known, max(0, extra))
        seen = observed(left, request, items, launches)
        gone = dropped(seen)
        left = [cell for cell in left if cell.name not in gone]
        known, before = items or known, launches or before
        if not left:
            break
    winner = best(seen)
    return Ending(next((cell for cell in cells if winner and cell.name == winner.name), None), spent)


def random_search(cells: Sequence[GridCell], request: Constraints, budget_s: float, drawn: random.Random) -> Ending:
    """Return the best of whole cells in random order, as many as the budget allows."""
    order = drawn.sample(list(cells), len(cells))
    return _best_of(cells, request, budget_s, lambda tried: order[len(tried)] if len(tried) < len(order) else None)


def tpe_search(cells: Sequence[GridCell], request: Constraints, budget_s: float, seed: int) -> Ending | None:
    """Return the best of whole cells as Optuna's TPE chooses them; None if Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    by_options = {tuple(sorted(cell.options.items())): cell for cell in reversed(cells)}
    values = {key: sorted({cell.options[key] for cell in cells}) for key in cells[0].options}
    scores = _scores(cells, request)

    def following(tried: Sequence[GridCell]) -> GridCell | None:
        for _ in range(20 * len(cells)):  # a repeated or missing cell costs nothing and is told
            trial = study.ask()
            options = {key: trial.suggest_categorical(key, choices) for key, choices in values.items()}
            cell = by_options.get(tuple(sorted(options.items())))
            study.tell(trial, -10.0 if cell is None else scores[cell.name])
            if cell is not None and cell not in tried:
                return cell
        return None

    return _best_of(cells, request, budget_s, following)


def _scores(cells: Sequence[GridCell], request: Constraints) -> dict[str, float]:
    """Return each cell's gain, less a penalty if it is not shown to meet the constraints."""
    seen = observed(cells, request, None, None)
    return {one.name: (one.gain.estimate if one.gain else -5.0) - (0.0 if one.is_feasible else 5.0) for one in seen}


def _best_of(
    cells: Sequence[GridCell],
    request: Constraints,
    budget_s: float,
    following: Callable[[Sequence[GridCell]], GridCell | None],
) -> Ending:
    tried: list[GridCell] = []
    spent = 0.0
    while (cell := following(tried)) is not None and spent + cell.cost_s(None, 0, None) <= budget_s:
        tried.append(cell)
        spent += cell.cost_s(None, 0, None)
    names = {cell.name for cell in tried}
    winner = best([one for one in observed(cells, request, None, None) if one.name in names])
    return Ending(next((cell for cell in tried if winner and cell.name == winner.name), None), spent)


def drawn_request(cells: Sequence[GridCell], drawn: random.Random) -> Constraints:
    """Return a random goal with constraints within the range of the grid, each with probability one half."""
    peaks = sorted(cell.peak[1] / GIB for cell in cells if cell.peak)
    ttfts = sorted(ttft[1] for cell in cells if (ttft := cell.ttft_s(cell.launches)))

    def limit(values: Sequence[float]) -> float | None:
        place = drawn.uniform(0.2, 1.0)
        chosen = values[min(len(values) - 1, int(place * len(values)))] * drawn.uniform(1.0, 1.2) if values else None
        return chosen if drawn.random() < 0.5 else None

    accuracy = drawn.uniform(0.8, 0.99)
    floor = accuracy if drawn.random() < 0.5 else None
    return Constraints(drawn.choice(GOALS), floor, limit(peaks), limit(ttfts))


def figures(cells: Sequence[GridCell], requests: Sequence[Constraints], seed: int) -> dict[str, dict[str, float]]:
    """Return for each strategy the share of requests near the optimum, its CPU share, and broken constraints."""
    whole_s = sum(cell.cost_s(None, 0, None) for cell in cells)
    endings: dict[str, list[tuple[Constraints, Ending]]] = {"search": [], "random": [], "tpe": []}
    for number, request in enumerate(requests):
        ending = replay_search(cells, request)
        endings["search"].append((request, ending))
        chance = random_search(cells, request, ending.cpu_s, random.Random(f"{seed} {number}"))
        endings["random"].append((request, chance))
        tpe = tpe_search(cells, request, ending.cpu_s, seed + number)
        endings["tpe"] += [(request, tpe)] if tpe is not None else []
    return {
        name: {
            "near_ratio": fmean(_is_near(cells, request, one) for request, one in group),
            "cpu_ratio": fmean(one.cpu_s / whole_s for _, one in group),
            "worst_cpu_ratio": max(one.cpu_s / whole_s for _, one in group),
            "broken": float(sum(one.cell is not None and breaks(one.cell, request) for request, one in group)),
            "requests": float(len(group)),
        }
        for name, group in endings.items()
        if group
    }


def _is_near(cells: Sequence[GridCell], request: Constraints, ending: Ending) -> bool:
    """Return whether the returned cell is within 2 % of the exhaustive optimum; none is right if none is feasible."""
    seen = {one.name: one for one in observed(cells, request, None, None)}
    optimum = best(list(seen.values()))
    if optimum is None or optimum.gain is None:
        return ending.cell is None
    found = seen[ending.cell.name].gain if ending.cell is not None else None
    return found is not None and optimum.gain.estimate - found.estimate <= math.log(1 + NEAR)


def table(found: dict[str, dict[str, float]], cells: int) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"Replays on a grid of {cells} cells, with the CPU time of all of them as the whole.",
        "",
        "| strategy | within 2 % of the optimum | CPU time, mean | worst | constraints broken | constraint sets |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in found.items():
        shares = [f"{100 * values[key]:.0f} %" for key in ("near_ratio", "cpu_ratio", "worst_cpu_ratio")]
        lines.append(f"| {name} | {' | '.join(shares)} | {values['broken']:.0f} | {values['requests']:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay and print the table. Return 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="records of the grid")
    parser.add_argument("--requests", type=int, default=100, help="number of random constraint sets (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    def work() -> int:
        cells = grid_of(options.folder)
        drawn = random.Random(options.seed)
        found = figures(cells, [drawn_request(cells, drawn) for _ in range(options.requests)], options.seed)
        write_atomic(options.folder / _FILE, json.dumps(found, indent=1, allow_nan=False) + "\n")
        print(table(found, len(cells)))
        return 0

    return speaking(work)


if __name__ == "__main__":
    sys.exit(main())

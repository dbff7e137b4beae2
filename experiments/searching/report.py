"""The result of a search as text, and as `search.json` beside the records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime_matrix.experiments.advice.choose import Constraints, choose
from runtime_matrix.experiments.advice.phrasing import describe, loose
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.searching.observed import row_of
from runtime_matrix.experiments.searching.policy import Seen, best, tied
from runtime_matrix.experiments.searching.request import CONSTRAINTS, Space
from runtime_matrix.experiments.searching.trials import Search, cpu_s

SEARCH_FILE = "search.json"
SCHEMA_VERSION = 1


def result_lines(space: Space, found: Search, request: Constraints) -> list[str]:
    """Return the finalists, the winner with its command, and the cost; or the smallest relaxation if none fits."""
    winner = best(found.finalists)
    lines = ["finalists:", *(f"  {line}" for line in _table(found.finalists, request))]
    if winner is None:
        lines += _nothing(found, request)
    else:
        ties = [one.name for one in tied(found.finalists, winner)]
        lines += [f"run {winner.name}: best {request.goal}" + (f"; tied with {', '.join(ties)}" if ties else "")]
        lines += [f"  {describe(row_of(found.last(winner.name)), request)}", f"  {_commands(space)[winner.name]}"]
    spent = cpu_s([trial.result for trials in found.trials.values() for trial in trials])
    trials = sum(map(len, found.trials.values()))
    lines.append(f"{trials} trials" + (f", {spent:,.0f} s of CPU time" if spent is not None else ""))
    return lines


def _commands(space: Space) -> dict[str, str]:
    return {one.name: recorded_command("run", one.words) for one in space.candidates}


def _table(seen: Sequence[Seen], request: Constraints) -> list[str]:
    """Return a line for each finalist, best first: its gain with the interval, and its constraints."""
    order = sorted(seen, key=lambda one: -math.inf if one.gain is None else one.gain.estimate, reverse=True)
    width = max((len(one.name) for one in order), default=0)
    state = {True: "meets all constraints", False: "breaks", None: "not shown"}
    whys = [f": {one.why}" if one.why else "" for one in order]
    return [
        f"{one.name:{width}}  {_gain(one, request.goal):20}  {state[one.is_feasible]}{why}"
        for one, why in zip(order, whys, strict=True)
    ]


def _gain(one: Seen, goal: str) -> str:
    if one.gain is None:
        return "not measured"
    gain = one.gain.exp()
    if goal == "memory":  # minus the logarithm of bytes
        return f"peak {2**-20 / gain.estimate:,.1f} MiB"
    return f"{gain.estimate:.2f}× [{gain.low:.2f}, {gain.high:.2f}]"


def _nothing(found: Search, request: Constraints) -> list[str]:
    """Return the smallest relaxation of the constraints that a trial of the last level of each candidate meets."""
    lines = ["no candidate is shown to meet all constraints"]
    relaxed = choose([row_of(trials[-1]) for trials in found.trials.values()], request).relaxed
    if relaxed is not None:
        looser, row = relaxed
        changes = [
            f"{key}={loose(name, getattr(looser, name))}"
            for key, name in CONSTRAINTS.items()
            if getattr(looser, name) != getattr(request, name)
        ]
        if changes:
            lines += [
                f"the smallest relaxation: {' '.join(changes)}, which {row.runtime} meets as far as it was measured"
            ]
    return lines


def write_search(space: Space, found: Search, request: Constraints, results: Path) -> None:
    """Write `search.json` into the folder of the records, whole or not at all."""
    winner, commands = best(found.finalists), _commands(space)
    content: JsonObject = {
        "schema_version": SCHEMA_VERSION,
        "goal": request.goal,
        "constraints": {key: getattr(request, name) for key, name in CONSTRAINTS.items()},
        "is_whole": found.is_whole,
        "levels": [
            {
                "items": step.level.items,
                "launches": step.level.launches,
                "candidates": [_plain(one) for one in step.seen],
                "dropped": step.dropped,
            }
            for step in found.steps
        ],
        "trials": {name: [trial.result.record.record_id for trial in trials] for name, trials in found.trials.items()},
        "winner": winner.name if winner else None,
        "command": commands[winner.name] if winner else None,
        "cpu_s": cpu_s([trial.result for trials in found.trials.values() for trial in trials]),
    }
    write_atomic(results / SEARCH_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _plain(one: Seen) -> Mapping[str, object]:
    gain = None if one.gain is None else [one.gain.estimate, one.gain.low, one.gain.high]
    return {"name": one.name, "log_gain": gain, "is_feasible": one.is_feasible, "why": one.why or None}

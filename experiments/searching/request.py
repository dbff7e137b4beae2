"""The goal and the constraints of a search, and its space: candidates and the reference, planned at each level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.jobs import composed_jobs
from runtime_matrix.experiments.cells.overrides import expand, own_words
from runtime_matrix.experiments.config.arguments import Arguments
from runtime_matrix.experiments.config.compose import plain
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.program import recorded_command

GOALS = ("latency", "throughput", "memory")
CONSTRAINTS = {
    "constraint.accuracy": "min_accuracy",
    "constraint.memory_gib": "max_memory_gib",
    "constraint.ttft_s": "max_ttft_s",
}
DEFAULT_SPACE = "experiment=search"
REFERENCE = "reference"
SCREENING_FOLDER = "screening"
_RUNTIME_WORDS = ("runtime=", "runtime.", "runtime/", "+runtime.")
_SCREENING = ((25, 2), (100, 2))  # (items of each benchmark, launches) of the levels before the user's own


@dataclass(frozen=True)
class Level:
    """How much of the user's own measurement is done; None: all of it."""

    items: int | None
    launches: int | None

    @property
    def text(self) -> str:
        """Return the level as a phrase."""
        items = "all items" if self.items is None else f"{self.items} items of each benchmark"
        return f"{items}, {'all' if self.launches is None else self.launches} launches"


@dataclass(frozen=True)
class Candidate:
    """A job of the space. `name` has the words that differ between candidates."""

    name: str
    resolved: JsonObject
    words: tuple[str, ...]  # its overrides as typed

    def cell(self, level: Level) -> Cell:
        """Return the candidate's cell at a level; UserError for a mistake in its configuration."""
        changes, words = _changes(self.resolved, level)
        return plan({**self.resolved, **changes}, recorded_command("run", [*self.words, *words]))


@dataclass(frozen=True)
class Space:
    """The candidates and the reference with which all are compared; it is a candidate itself."""

    reference: Candidate
    others: tuple[Candidate, ...]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return all candidates, the reference first."""
        return (self.reference, *self.others)


def read_request(words: Sequence[str]) -> tuple[Constraints, Arguments]:
    """Return goal and constraints, and the words for Hydra; UserError for a mistake."""
    values, given = own_words(words, {"goal": "latency", **dict.fromkeys(CONSTRAINTS)})
    unknown = [key for word in given.overrides if (key := word.partition("=")[0]).startswith("constraint")]
    if unknown:
        raise UserError(f"{unknown[0]} is not a constraint{did_you_mean(unknown[0], CONSTRAINTS)}")
    goal = str(values["goal"])
    if goal not in GOALS:
        raise UserError(f"goal={goal} is none of {', '.join(GOALS)}{did_you_mean(goal, GOALS)}")
    accuracy, memory_gib, ttft_s = (_positive(key, values[key]) for key in CONSTRAINTS)
    return Constraints(goal, accuracy, memory_gib, ttft_s), given


def _positive(key: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"{key}={text} must be a number above 0")
    return value


def space_of(given: Arguments) -> Space:
    """Return the space of the overrides: the user's sweep, or the default one if nothing is swept.

    The reference has the words that all candidates share, and the runtime `runtime@reference`.
    """
    names_experiment = any(word.startswith("experiment=") for word in given.overrides)
    if not names_experiment and len(expand(given.overrides)) == 1:
        given.overrides.insert(0, DEFAULT_SPACE)
    given.is_sweep = True
    jobs = composed_jobs(given)
    if len(jobs) < 2:
        raise UserError("one candidate is no search: give several values, as in runtime=eager,onnxruntime")
    shared = set.intersection(*({*overrides} for _, overrides in jobs))
    reference = _reference(given, jobs[0][1], shared)
    others = []
    for config, overrides in jobs:
        name = " ".join(word for word in overrides if word not in shared)
        others.append(Candidate(name, plain(config, overrides), tuple(given.as_typed(overrides))))
    if not reference.cell(Level(None, None)).is_reference:
        raise UserError("the shared words change the reference: give options of a runtime as runtime.KEY=VALUE")
    return Space(reference, tuple(_different(reference, others)))


def _different(reference: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    """Return the first candidate of each configuration, without the reference's."""
    whole = Level(None, None)
    known, different = {reference.cell(whole).config_hash}, []
    for one in others:
        digest = one.cell(whole).config_hash
        if digest not in known:
            different.append(one)
        known.add(digest)
    return different


def _reference(given: Arguments, first: Sequence[str], shared: set[str]) -> Candidate:
    words = [word for word in first if word in shared and not word.startswith(_RUNTIME_WORDS)]
    name = next((word.partition("=")[2] for word in first if word.startswith("runtime@reference=")), "eager")
    words += [f"runtime={name}", *(f"runtime.{word[10:]}" for word in words if word.startswith("reference."))]
    experiments = [word for word in words if word.startswith("experiment=")]
    # An experiment's own sweep would make several jobs of one: its parameters are set to nothing.
    ((config, overrides),) = _single(given, words, bool(experiments))
    return Candidate(f"{REFERENCE} runtime={name}", plain(config, overrides), tuple(given.as_typed(overrides)))


def _single(given: Arguments, words: Sequence[str], has_experiment: bool) -> list[tuple[Any, list[str]]]:
    searched = [word for word in given.overrides if word.startswith("hydra.searchpath=")]
    mode = ["hydra.mode=RUN"] if has_experiment else []
    return composed_jobs(Arguments([*words, *searched, *mode]))


def levels_of(resolved: Mapping[str, Any]) -> list[Level]:
    """Return the levels of a search: screening levels that cost less than the user's own measurement, then that one.

    Benchmarks without items are screened once, with few launches.
    """
    launches = resolved["comparison"]["launches"]
    if not _has_items(resolved):
        few = _SCREENING[0][1]
        return [*([Level(None, few)] if launches is None or few < launches else []), Level(None, None)]
    own = resolved.get(_item_key(resolved))
    return [*(Level(items, n) for items, n in _SCREENING if own is None or items < own), Level(None, None)]


def _has_items(resolved: Mapping[str, Any]) -> bool:
    return any("limit" in options for options in resolved["benchmark"].values() if isinstance(options, Mapping))


def _item_key(resolved: Mapping[str, Any]) -> str:
    return "sample" if resolved.get("sample") is not None else "limit"


def _changes(resolved: JsonObject, level: Level) -> tuple[JsonObject, list[str]]:
    """Return what a level changes in a configuration, and the same as overrides."""
    comparison = {**resolved["comparison"], "first_look": False}
    changes: JsonObject = {"resume": True, "responses": {**resolved["responses"], "mode": "use"}}
    words = []
    if level.items is not None:
        key = _item_key(resolved)
        changes[key] = level.items
        words.append(f"{key}={level.items}")
    if level.launches is not None:
        comparison["launches"] = level.launches
        if level.items is None:  # the same cell: its record must not replace the whole measurement's
            changes["results_dir"] = f"{resolved['results_dir']}/{SCREENING_FOLDER}"
        words.append(f"comparison.launches={level.launches}")
    return {**changes, "comparison": comparison}, words

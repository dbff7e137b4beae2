"""Run the levels of a search. Each is a sweep of the reference and the candidates that remain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.searching.observed import Trial, observe
from runtime_matrix.experiments.searching.policy import Seen, dropped
from runtime_matrix.experiments.searching.request import Candidate, Level, Space

# Measures cells, the reference first, and returns their results in this order; False: some are left out.
Measure = Callable[[Sequence[Cell]], tuple[Sequence[Result], bool]]


@dataclass(frozen=True)
class Step:
    """A level as it was run: what was seen of each candidate, and which ones do not go on."""

    level: Level
    seen: list[Seen]
    dropped: dict[str, str]


@dataclass
class Search:
    """A search so far. `trials` has the trials of each candidate by its name."""

    trials: dict[str, list[Trial]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    is_whole: bool = True

    @property
    def finalists(self) -> list[Seen]:
        """Return what is known of the candidates of the last level; empty if it was not reached."""
        return self.steps[-1].seen if self.is_whole and self.steps else []

    def last(self, name: str) -> Trial:
        """Return a candidate's last trial."""
        return self.trials[name][-1]


def search(
    space: Space,
    levels: Sequence[Level],
    request: Constraints,
    measure: Measure,
    say: Callable[[str], None] = print,
) -> Search:
    """Measure the candidates level by level; after each, those that are shown not to be the best are dropped.

    The reference is measured at each level, also if it breaks a constraint itself.
    """
    found = Search()
    left = list(space.others)
    is_reference_left = True
    for number, level in enumerate(levels, start=1):
        say(f"level {number} of {len(levels)}: {_count(len(left) + is_reference_left)}, {level.text}")
        if not _measure_level(found, space.reference, left, level, measure):
            found.is_whole = False
            break
        names = [*([space.reference.name] if is_reference_left else []), *(one.name for one in left)]
        seen = observe({name: found.trials[name] for name in names}, request)
        gone = dropped(seen)
        found.steps.append(Step(level, seen, gone))
        for name, why in gone.items():
            say(f"  dropped {name}: {why}")
        left = [one for one in left if one.name not in gone]
        is_reference_left = is_reference_left and space.reference.name not in gone
        if not left and not is_reference_left:
            break
    return found


def _measure_level(
    found: Search, reference: Candidate, left: Sequence[Candidate], level: Level, measure: Measure
) -> bool:
    """Add the trials of a level; return False if it was not completed."""
    candidates = [reference, *left]
    results, is_whole = measure([one.cell(level) for one in candidates])
    for candidate, result in zip(candidates, results, strict=False):
        found.trials.setdefault(candidate.name, []).append(Trial(result, results[0]))
    return is_whole and len(results) == len(candidates)


def _count(number: int) -> str:
    return f"{number} candidate{'' if number == 1 else 's'}"


def cpu_s(results: Sequence[Result]) -> float | None:
    """Return the CPU seconds of all processes of the cells and their launches; None if any is unknown.

    The reference's share of a launch is counted once, although it stands beside each candidate.
    """
    spent: list[float | None] = [value for result in results for value in result.record.jobs_cpu_s.values()]
    references: dict[str, float | None] = {}
    for result in results:
        for launch in result.speed.launches if result.speed is not None else []:
            known = launch.process_cpu_s
            if not result.record.is_reference:
                spent.append(known.candidate if known else None)
            references[str(launch.seed)] = known.reference if known else None
    spent += references.values()
    known_s = [value for value in spent if value is not None]
    return sum(known_s) if len(known_s) == len(spent) else None

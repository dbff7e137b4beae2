"""What presets of runtimes say for themselves: for which problem they are worth a try, and why.

A preset `conf/runtime/NAME.yaml`, also one of another package, may have a key `hints`; it is no part of a cell:

    hints:
      - {problem: memory, rank: 20, why: 4 bits without calibration}
      - {problem: accuracy, rank: 10, why: more bits, words: [runtime.weights.bits=8]}
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.config.compose import compose_option, places, read_option
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.config.validate import among, build, least

PROBLEMS = ("memory", "speed", "accuracy")  # in the order in which they are met
_GROUP = "runtime"


@dataclass(frozen=True, kw_only=True)
class Hint:
    """One entry of a preset's `hints`."""

    problem: str = among(*PROBLEMS)
    why: str
    rank: int = least(0, default=50)  # lower ones are suggested first
    words: tuple[str, ...] = ()  # that are typed after runtime=NAME


@dataclass(frozen=True)
class Suggested:
    """A preset and one of its hints."""

    preset: str
    hint: Hint

    @property
    def title(self) -> str | None:
        """What the cell would be called in the matrix; None for words that make no other title of the preset."""
        title = _title(self.preset, self.hint.words)
        return None if self.hint.words and title == _title(self.preset, ()) else title


def suggested(problem: str) -> list[Suggested]:
    """Return the hints for a problem, by rank and then by preset. UserError for a preset whose hints are malformed."""
    found = [Suggested(preset, hint) for preset, hint in _hints() if hint.problem == problem]
    return sorted(found, key=lambda one: one.hint.rank)


@cache
def _hints() -> tuple[tuple[str, Hint], ...]:
    paths: dict[str, Path] = {}
    for place in places():
        for path in (place / _GROUP).glob("*.yaml"):
            paths.setdefault(path.stem, path)  # as for Hydra, the first folder wins
    return tuple((name, hint) for name in sorted(paths) for hint in _hints_of(paths[name]))


def _hints_of(path: Path) -> list[Hint]:
    entries = read_option(path).get("hints") or []
    if not isinstance(entries, list):
        raise UserError(f"{path}: hints must be a list, as in conf/runtime/nf4.yaml")
    return [build(Hint, entry, f"{path}: hints[{index}]") for index, entry in enumerate(entries)]


@cache
def _title(preset: str, words: tuple[str, ...]) -> str:
    config: RuntimeConfig = build(RuntimeConfig, compose_option(_GROUP, preset, words), _GROUP)
    return config.title

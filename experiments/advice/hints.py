"""Hints of runtime presets: the problem for which a preset is worth a try, and why.

A preset `conf/runtime/NAME.yaml`, also of another package, may have a key `hints`. It is not part of a cell:

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

PROBLEMS = ("memory", "speed", "accuracy")  # in the order of suggestions
_GROUP = "runtime"


@dataclass(frozen=True, kw_only=True)
class Hint:
    """One entry of a preset's `hints`."""

    problem: str = among(*PROBLEMS)
    why: str
    rank: int = least(0, default=50)  # lower ones are suggested first
    words: tuple[str, ...] = ()  # overrides after runtime=NAME


@dataclass(frozen=True)
class Suggested:
    """A preset and one of its hints."""

    preset: str
    hint: Hint

    @property
    def title(self) -> str | None:
        """Return the cell's name in the matrix; None if the words do not change the preset's title."""
        title = _config(self.preset, self.hint.words).title
        return None if self.hint.words and title == _config(self.preset, ()).title else title

    @property
    def engine(self) -> str:
        """Return the name of the preset's engine."""
        return str(_config(self.preset, self.hint.words).engine["name"])


def suggested(problem: str) -> list[Suggested]:
    """Return the hints for a problem, ordered by rank and preset. UserError for malformed hints."""
    suggestions = [Suggested(preset, hint) for preset, hint in _hints() if hint.problem == problem]
    return sorted(suggestions, key=lambda suggestion: suggestion.hint.rank)


@cache
def _hints() -> tuple[tuple[str, Hint], ...]:
    paths: dict[str, Path] = {}
    for place in places():
        for path in (place / _GROUP).glob("*.yaml"):
            paths.setdefault(path.stem, path)  # as in Hydra, the first folder wins
    return tuple((name, hint) for name in sorted(paths) for hint in _hints_of(paths[name]))


def _hints_of(path: Path) -> list[Hint]:
    entries = read_option(path).get("hints") or []
    if not isinstance(entries, list):
        raise UserError(f"{path}: hints must be a list, as in conf/runtime/nf4.yaml")
    return [build(Hint, entry, f"{path}: hints[{index}]") for index, entry in enumerate(entries)]


@cache
def _config(preset: str, words: tuple[str, ...]) -> RuntimeConfig:
    config: RuntimeConfig = build(RuntimeConfig, compose_option(_GROUP, preset, words), _GROUP)
    return config

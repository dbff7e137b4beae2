"""The figures of a run that can be compared: its time, its memory, or a number that it prints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.programs.program import Program, Run

_SHOWN = 80  # characters of a text in a message


@dataclass(frozen=True)
class Figure:
    """A figure as it was requested: `wall`, `cpu`, `memory`, `json:PATH` or `regex:PATTERN`."""

    name: str
    unit: str
    read: Callable[[Program, Run], float]
    is_printed: bool = False

    def of(self, program: Program, run: Run) -> float:
        """Return the value, above 0. UserError if the program did not print one."""
        value = self.read(program, run)
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"`{program.command}`: {self.name} is {value:g}; a ratio needs numbers above 0")
        return value


_USAGE: dict[str, Figure] = {
    "wall": Figure("wall", "s", lambda program, run: run.usage.wall_s),
    "cpu": Figure("cpu", "s", lambda program, run: run.usage.cpu_s),
    "memory": Figure("memory", "bytes", lambda program, run: float(run.usage.peak_bytes)),
}
DEFAULT = tuple(_USAGE)


def parse_figure(text: str) -> Figure:
    """Return the figure that a text names. UserError for an unknown one or a pattern that is not valid."""
    if text in _USAGE:
        return _USAGE[text]
    kind, _, argument = text.partition(":")
    if kind == "json" and argument:
        return Figure(text, "", lambda program, run: _json_number(program, run, argument), is_printed=True)
    if kind == "regex" and argument:
        try:
            pattern = re.compile(argument, re.MULTILINE)
        except re.error as error:
            raise UserError(f"metric {text}: the pattern is not valid: {error}") from error
        if pattern.groups > 1:
            raise UserError(f"metric {text}: the pattern has {pattern.groups} groups; at most one can hold the number")
        return Figure(text, "", lambda program, run: _matched_number(program, run, pattern), is_printed=True)
    raise UserError(f"metric {text} is unknown{did_you_mean(kind, [*_USAGE, 'json:PATH', 'regex:PATTERN'])}")


def _json_number(program: Program, run: Run, path: str) -> float:
    value = _json_output(program, run.output or "")
    passed: list[str] = []
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.lstrip("-").isdigit() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            keys = [str(known) for known in value] if isinstance(value, Mapping) else []
            place = ".".join(passed) or "the JSON that it prints"
            raise UserError(f"`{program.command}`: {place} has no {key}{did_you_mean(key, keys) if keys else ''}")
        passed.append(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"`{program.command}`: {path} is no number: {_shown(json.dumps(value))}")
    return float(value)


def _json_output(program: Program, output: str) -> object:
    """Return the whole output as JSON, or else its last line that is a JSON object or array."""
    candidates = [output, *(line for line in reversed(output.splitlines()) if line.lstrip()[:1] in ("{", "["))]
    for text in candidates:
        try:
            value: object = json.loads(text)
            return value
        except (ValueError, RecursionError):
            continue
    raise UserError(f"`{program.command}` prints no JSON: {_shown(output)}")


def _matched_number(program: Program, run: Run, pattern: re.Pattern[str]) -> float:
    texts = pattern.findall(run.output or "")
    if not texts:
        raise UserError(
            f"`{program.command}` prints nothing that matches {pattern.pattern}: {_shown(run.output or '')}"
        )
    try:
        return float(texts[-1].replace(",", ""))
    except ValueError as error:
        raise UserError(f"`{program.command}`: {pattern.pattern} matches no number: {_shown(texts[-1])}") from error


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line[:_SHOWN] + ("…" if len(line) > _SHOWN else "")) if line else "nothing"

"""What to try next, as commands: first for memory, then for speed, then for accuracy. Measured cells are left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.advice import detection_steps
from runtime_matrix.experiments.advice.choose import Constraints, lacks
from runtime_matrix.experiments.advice.hints import PROBLEMS, Suggested, suggested
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.records.row import Row


@dataclass(frozen=True)
class Step:
    """A suggestion: a command and the reason for it."""

    why: str
    command: str


def next_steps(rows: Sequence[Row], constraints: Constraints) -> list[Step]:
    """Return suggestions for the violated constraints and for the goal, without duplicate commands.

    Runtimes come from the hints of presets, see `hints.py`. UserError for malformed hints.
    """
    problems = _problems(rows, constraints)
    steps: list[Step] = []
    for problem in PROBLEMS:
        if problem in problems:
            ranked = _settings(rows, problem) + _runtimes(rows, _usable(rows, suggested(problem)))
            steps += [step for _, step in sorted(ranked, key=lambda pair: pair[0])]
    steps += _suggestions(rows, detection_steps.accuracy_steps(rows, "accuracy" in problems))
    return list({step.command: step for step in steps}.values())


def beside_reference(rows: Sequence[Row], preset: str, *words: str) -> str:
    """Return the command that measures a runtime and the reference in one sweep, so that both are interleaved."""
    reference = next((row.runtime for row in rows if row.is_reference), "eager")
    return _command(rows, ["-m", f"runtime={reference},{preset}", *words])


def _problems(rows: Sequence[Row], constraints: Constraints) -> set[str]:
    measured = [row for row in rows if row.status == "ok"]
    missed = {violation.option for row in measured for violation in lacks(row, constraints) if not violation.is_unshown}
    problems = (
        {"memory"} if constraints.goal == "memory" or any(row.status == "out_of_memory" for row in rows) else set()
    )
    if constraints.goal != "memory" or "--max-ttft-s" in missed:
        problems.add("speed")
    if "--max-memory-gib" in missed:
        problems.add("memory")
    if "--min-accuracy" in missed:
        problems.add("accuracy")
    return problems


def _settings(rows: Sequence[Row], problem: str) -> list[tuple[int, Step]]:
    """Return settings that help with any runtime, each with its rank among the hints of presets."""
    steps: dict[str, list[tuple[int, list[Step]]]] = {"memory": [], "speed": []}
    if detection_steps.measured(rows):
        steps["memory"].append((50, _suggestions(rows, detection_steps.memory_steps(rows))))
        steps["speed"].append((1, _suggestions(rows, detection_steps.speed_steps(rows))))
    if not detection_steps.is_alone(rows):
        steps["memory"].append((50, _shorter(rows)))
        steps["speed"] += [(1, _batching(rows)), (2, _attention(rows))]
    return [(rank, step) for rank, alternatives in steps.get(problem, []) for step in alternatives]


def _usable(rows: Sequence[Row], presets: Sequence[Suggested]) -> list[Suggested]:
    """Return the presets, and for detection those of engines that it was measured with."""
    engines = detection_steps.engines(rows) if detection_steps.is_alone(rows) else set()
    return [preset for preset in presets if not engines or preset.engine in engines]


def _suggestions(rows: Sequence[Row], suggestions: Sequence[detection_steps.Suggestion]) -> list[Step]:
    """Return steps of detection that were not tried, with the detection options of the cells' commands."""
    return [
        Step(suggestion.why, _command(rows, suggestion.words))
        for suggestion in suggestions
        if not _is_tried(rows, suggestion.words[1:])
    ]


def _runtimes(rows: Sequence[Row], presets: Sequence[Suggested]) -> list[tuple[int, Step]]:
    tried = {row.runtime for row in rows}  # failures too: a repetition would give the same row
    commands = " ".join(row.command for row in rows)
    return [
        (suggestion.hint.rank, Step(suggestion.hint.why, _command_of(rows, suggestion)))
        for suggestion in presets
        if suggestion.title not in tried and not any(word in commands for word in suggestion.hint.words)
    ]


def _command_of(rows: Sequence[Row], suggestion: Suggested) -> str:
    if not suggestion.hint.words:
        return beside_reference(rows, suggestion.preset)
    return _command(rows, [f"runtime={suggestion.preset}", *suggestion.hint.words])


def _shorter(rows: Sequence[Row]) -> list[Step]:
    words = ["benchmark.memory.prompt_tokens=32", "benchmark.latency.prompt_tokens=32"]
    return [] if _is_tried(rows, words) else [Step("shorter sequences: a smaller cache", _command(rows, words))]


def _batching(rows: Sequence[Row]) -> list[Step]:
    words = ["benchmark.latency.batch=[1,4,16]"]
    return [] if _is_tried(rows, words) else [Step("batching: what a larger batch gives", _command(rows, words))]


def _attention(rows: Sequence[Row]) -> list[Step]:
    """Return a step to PyTorch's scaled_dot_product_attention, which selects a flash kernel if there is one."""
    is_plain = any("attention=eager" in row.command for row in rows)
    words = ["runtime.engine.attention=sdpa"]
    return [Step("flash attention, through PyTorch's sdpa", _command(rows, words))] if is_plain else []


def _is_tried(rows: Sequence[Row], words: Sequence[str]) -> bool:
    return any(all(word in shlex.split(row.command) for word in words) for row in rows)


def _command(rows: Sequence[Row], words: Sequence[str]) -> str:
    """Return a run command with the model, hardware and folders of the cells' commands, then the words."""
    first_command = next((row.command for row in rows if row.command), "")
    kept = ["model", "hw", "results_dir", "artifacts_dir"]
    if detection_steps.measured(rows):
        kept += detection_steps.KEPT
    options = {word.partition("=")[0] for word in words}
    kept_words = [
        word
        for word in shlex.split(first_command)
        if word.startswith(tuple(kept)) and word.partition("=")[0] not in options
    ]
    if detection_steps.is_alone(rows) and not any(word.startswith("benchmark=") for word in (*kept_words, *words)):
        kept_words.append(detection_steps.SELECT)
    return command_line("run", [*kept_words, *words])

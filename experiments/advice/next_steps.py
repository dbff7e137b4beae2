"""What to try next: the decision tree out of memory → too slow → accuracy lost, as commands; measured ones left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.advice.choose import Constraints, lacks
from runtime_matrix.experiments.advice.hints import PROBLEMS, Suggested, suggested
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.records.row import Row


@dataclass(frozen=True)
class Step:
    why: str
    command: str


def next_steps(found: Sequence[Row], wish: Constraints) -> list[Step]:
    """Return what the tree suggests for what stands in the way, or for the goal where nothing does.

    Runtimes are suggested by their presets, see `hints.py`. UserError for a preset whose hints are malformed.
    """
    problems = _problems(found, wish)
    steps: list[Step] = []
    for problem in PROBLEMS:
        if problem in problems:
            ranked = _settings(found, problem) + _runtimes(found, suggested(problem))
            steps += [step for _, step in sorted(ranked, key=lambda pair: pair[0])]
    return list({step.command: step for step in steps}.values())


def beside_reference(found: Sequence[Row], preset: str, *words: str) -> str:
    """Return the command that measures a runtime together with the reference, so that both are timed interleaved."""
    reference = next((row.runtime for row in found if row.is_reference), "eager")
    return _command(found, ["-m", f"runtime={reference},{preset}", *words])


def _problems(found: Sequence[Row], wish: Constraints) -> set[str]:
    measured = [row for row in found if row.status == "ok"]
    missed = {lack.option for row in measured for lack in lacks(row, wish) if not lack.is_unshown}
    problems = {"memory"} if wish.goal == "memory" or any(row.status == "out_of_memory" for row in found) else set()
    if wish.goal != "memory" or "--max-ttft-s" in missed:
        problems.add("speed")
    if "--max-memory-gib" in missed:
        problems.add("memory")
    if "--min-accuracy" in missed:
        problems.add("accuracy")
    return problems


def _settings(found: Sequence[Row], problem: str) -> list[tuple[int, Step]]:
    """Return what helps with any runtime, each with its rank among the hints of presets."""
    steps = {"memory": [(50, _shorter(found))], "speed": [(1, _batching(found)), (2, _attention(found))]}
    return [(rank, step) for rank, alternatives in steps.get(problem, []) for step in alternatives]


def _runtimes(found: Sequence[Row], presets: Sequence[Suggested]) -> list[tuple[int, Step]]:
    tried = {row.runtime for row in found}  # failures too: trying them again gives the same row
    commands = " ".join(row.command for row in found)
    return [
        (one.hint.rank, Step(one.hint.why, _command_of(found, one)))
        for one in presets
        if one.title not in tried and not any(word in commands for word in one.hint.words)
    ]


def _command_of(found: Sequence[Row], one: Suggested) -> str:
    if not one.hint.words:
        return beside_reference(found, one.preset)
    return _command(found, [f"runtime={one.preset}", *one.hint.words])


def _shorter(found: Sequence[Row]) -> list[Step]:
    words = ["benchmark.memory.prompt_tokens=32", "benchmark.latency.prompt_tokens=32"]
    return [] if _is_tried(found, words) else [Step("shorter sequences: a smaller cache", _command(found, words))]


def _batching(found: Sequence[Row]) -> list[Step]:
    words = ["benchmark.latency.batch=[1,4,16]"]
    return [] if _is_tried(found, words) else [Step("batching: what a larger batch gives", _command(found, words))]


def _attention(found: Sequence[Row]) -> list[Step]:
    """PyTorch's scaled_dot_product_attention picks the flash kernel where there is one."""
    is_plain = any("attention=eager" in row.command for row in found)
    words = ["runtime.engine.attention=sdpa"]
    return [Step("flash attention, through PyTorch's sdpa", _command(found, words))] if is_plain else []


def _is_tried(found: Sequence[Row], words: Sequence[str]) -> bool:
    return any(all(word in shlex.split(row.command) for word in words) for row in found)


def _command(found: Sequence[Row], words: Sequence[str]) -> str:
    """Return the words after those that name the model and the hardware in the cells' own commands."""
    given = next((row.command for row in found if row.command), "")
    chosen = [word for word in shlex.split(given) if word.startswith(("model", "hw", "results_dir", "artifacts_dir"))]
    return command_line("run", [*chosen, *words])

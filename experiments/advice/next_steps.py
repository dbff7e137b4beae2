"""What to try next: the decision tree out of memory → too slow → accuracy lost, as commands; measured ones left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.advice.choose import Wish, lacks
from runtime_matrix.experiments.program import command_line
from runtime_matrix.experiments.records.schema import Row

PRESETS = Path(__file__).parents[2] / "conf" / "runtime"


@dataclass(frozen=True)
class Step:
    why: str
    command: str


@dataclass(frozen=True)
class _Idea:
    """`title` is what the cell would be called in the matrix; None where it is a setting of a runtime, not another."""

    why: str
    preset: str
    words: tuple[str, ...]
    title: str | None


_FOUR_BITS = (
    _Idea("4 bits: a quarter of the weights' memory or less", "gptq", (), "gptq"),
    _Idea("4 bits without calibration", "nf4", (), "eager+nf4"),
    _Idea("4 bits within the graph", "onnxruntime_int4", (), "onnxruntime+int4"),
)
_OFFLOAD = (_Idea("the last layers off the device: the last resort, and slow", "offload", (), "offload"),)
_COMPILED = (
    _Idea("compiled", "compile", (), "compile"),
    _Idea("an engine of its own", "onnxruntime", (), "onnxruntime"),
    _Idea("8 bits move fewer bytes a token", "onnxruntime_int8", (), "onnxruntime+int8"),
    _Idea("compiled over 8 bits", "compile_torchao_int8", (), "compile+torchao_int8"),
    _Idea("TensorRT", "tensorrt", (), "tensorrt"),
)
_MORE_BITS = (
    _Idea("more bits", "gptq", ("runtime.weights.bits=8",), "gptq8"),
    _Idea("smaller groups: more scales for as many bits", "gptq", ("runtime.weights.group_size=16",), None),
    _Idea("8 bits by another method", "torchao_int8", (), "eager+torchao_int8"),
)


def next_steps(found: Sequence[Row], wish: Wish) -> list[Step]:
    """Return what the tree suggests for what stands in the way, or for the goal where nothing does."""
    problems = _problems(found, wish)
    steps: list[Step] = []
    if "memory" in problems:
        steps += _runtimes(found, _FOUR_BITS) + _shorter(found) + _runtimes(found, _OFFLOAD)
    if "speed" in problems:
        steps += _batching(found) + _attention(found) + _runtimes(found, _COMPILED)
    if "accuracy" in problems:
        steps += _runtimes(found, _MORE_BITS)
    return list({step.command: step for step in steps}.values())


def beside_reference(found: Sequence[Row], preset: str, *words: str) -> str:
    """Return the command that measures a runtime together with the reference, so that both are timed interleaved."""
    reference = next((row.runtime for row in found if row.is_reference), "eager")
    return _command(found, ["-m", f"runtime={reference},{preset}", *words])


def _problems(found: Sequence[Row], wish: Wish) -> set[str]:
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


def _runtimes(found: Sequence[Row], ideas: Sequence[_Idea]) -> list[Step]:
    tried = {row.runtime for row in found}  # failures too: trying them again gives the same row
    commands = " ".join(row.command for row in found)
    return [
        Step(idea.why, beside_reference(found, idea.preset, *idea.words))
        if not idea.words
        else Step(idea.why, _command(found, [f"runtime={idea.preset}", *idea.words]))
        for idea in ideas
        if (PRESETS / f"{idea.preset}.yaml").exists()
        and idea.title not in tried
        and not any(word in commands for word in idea.words)
    ]


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

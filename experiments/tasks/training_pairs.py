"""Measure a training step and its parts with and without gradient checkpointing, in turns.

The sides of a round run one directly after the other, and each round begins with the other side. Memory is measured
apart from time, because returning freed blocks at once slows allocation down. Shapes: B rows, T tokens per row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from runtime_matrix.experiments.measurement.freed_memory import returned_at_once
from runtime_matrix.experiments.measurement.processes import tree_cpu_s
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry
from runtime_matrix.runtimes.heap import return_freed
from runtime_matrix.runtimes.training import TokenIds, Training

if TYPE_CHECKING:
    import torch

PAIRS = ("step", "forward", "inference")  # with a backward pass; prepared for one; in inference mode
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": tree_cpu_s}
_SIDES = (False, True)  # checkpointing
_MEMORY_ROUNDS = 3
_EPSILON = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}  # by dtype
_LEAST_S = 1e-6  # below the resolution of the CPU clock


@dataclass
class _Side:
    """What was measured with checkpointing, or without."""

    times_s: dict[str, list[float]] = field(default_factory=lambda: {clock: [] for clock in CLOCKS})
    peaks_bytes: list[float] = field(default_factory=list)
    loss: float = math.nan


def measure(bench: Bench, entry: OpenEntry, training: Training, ids_BT: TokenIds, rounds: int) -> None:
    """Fill the entry with the figures of all pairs. Raises ValueError if checkpointing changes a loss or gradient."""
    work = dict(zip(PAIRS, (training.step, training.forward, training.infer), strict=True))
    total = len(PAIRS) * (rounds + _MEMORY_ROUNDS)
    entry.figures = {**compared(training, ids_BT, tolerance(bench.traits.dtype))}
    for number, name in enumerate(PAIRS):
        sides = {side: _Side() for side in _SIDES}
        run = partial(work[name], ids_BT)
        for index in range(_MEMORY_ROUNDS + rounds):
            for side in _SIDES if index % 2 == 0 else reversed(_SIDES):
                _prepare(training, side)
                if index < _MEMORY_ROUNDS:  # first: they warm up too
                    _measure_memory(bench, run, sides[side], name)
                else:
                    _time(run, sides[side])
            bench.report(number * (_MEMORY_ROUNDS + rounds) + index + 1, total)
        _check_losses(name, sides[False].loss, sides[True].loss, tolerance(bench.traits.dtype))
        entry.samples |= _samples(name, sides)
        entry.figures |= {**_times(name, sides), **_memory(name, sides)}


def compared(training: Training, ids_BT: TokenIds, most: float) -> Figures:
    """Return the losses of both sides, and how far their gradients are apart.

    Of each weight: the norm of the difference over the norm of the gradient without checkpointing. Raises ValueError
    if that, or the difference of the losses, exceeds `most`, and FloatingPointError for a value that is not finite.
    """
    losses, gradients = [], []
    for side in _SIDES:
        _prepare(training, side)
        losses.append(training.step(ids_BT))
        gradients.append({name: gradient.clone() for name, gradient in training.gradients().items()})
    plain, checkpointed = gradients
    if not plain or plain.keys() != checkpointed.keys():
        raise ValueError("the weights that have gradients are not the same with gradient checkpointing")
    differences = {name: _apart(plain[name], checkpointed[name]) for name in plain}
    furthest = max(differences, key=lambda name: differences[name])
    if not all(map(math.isfinite, (*losses, *differences.values()))):
        raise FloatingPointError("a loss or a gradient of the training step is not finite")
    if differences[furthest] > most:
        raise ValueError(
            f"gradient checkpointing changes the gradient of {furthest} by {differences[furthest]:.1e} of its norm"
        )
    _check_losses("step", losses[0], losses[1], most)
    return {
        "loss": losses[0],
        "checkpointed_loss": losses[1],
        "loss_ratio": losses[0] / losses[1],
        "gradient_difference_ratio": differences[furthest],
        "gradient_norm": math.sqrt(sum(float(gradient.float().norm()) ** 2 for gradient in plain.values())),
    }


def tolerance(dtype: str) -> float:
    """Return the largest relative difference of two gradients that are the same: half of the dtype's digits."""
    return math.sqrt(_EPSILON[dtype])


def _apart(plain: torch.Tensor, other: torch.Tensor) -> float:
    norm, difference = float(plain.float().norm()), float((plain.float() - other.float()).norm())
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / norm


def _check_losses(name: str, plain: float, checkpointed: float, most: float) -> None:
    if not abs(plain - checkpointed) <= most * abs(plain):
        raise ValueError(
            f"gradient checkpointing changes the loss of the {name} from {plain:.6g} to {checkpointed:.6g}"
        )


def _prepare(training: Training, side: bool) -> None:
    training.drop_gradients()
    training.set_checkpointing(side)


def _measure_memory(bench: Bench, work: Callable[[], float], side: _Side, name: str) -> None:
    return_freed()
    with returned_at_once(), bench.peak_memory(f"training {name}") as peak:
        side.loss = work()
    found = peak.device_bytes if peak.device_bytes is not None else peak.host_bytes
    if found:
        side.peaks_bytes.append(found)


def _time(work: Callable[[], float], side: _Side) -> None:
    start = {name: clock() for name, clock in CLOCKS.items()}
    work()
    for name, clock in CLOCKS.items():
        side.times_s[name].append(max(_LEAST_S, clock() - start[name]))


def _times(name: str, sides: Mapping[bool, _Side]) -> Figures:
    """Return the median times, and the speed with checkpointing over that without, by each clock."""
    plain, checkpointed = sides[False].times_s, sides[True].times_s
    figures: Figures = {f"{name}_s": median(plain["wall"]), f"{name}_checkpointed_s": median(checkpointed["wall"])}
    for clock in CLOCKS:
        figures |= _ratio(f"{name}_{clock}_speed_ratio", plain[clock], checkpointed[clock])
    return figures


def _memory(name: str, sides: Mapping[bool, _Side]) -> Figures:
    """Return the median peaks, and their ratio; None where memory cannot be measured."""
    plain, checkpointed = sides[False].peaks_bytes, sides[True].peaks_bytes
    if len(plain) < _MEMORY_ROUNDS or len(checkpointed) < _MEMORY_ROUNDS:
        return dict.fromkeys((f"{name}_peak_bytes", f"{name}_checkpointed_peak_bytes", f"{name}_memory_ratio"))
    return {
        f"{name}_peak_bytes": median(plain),
        f"{name}_checkpointed_peak_bytes": median(checkpointed),
        **_ratio(f"{name}_memory_ratio", plain, checkpointed),
    }


def _ratio(key: str, plain: Sequence[float], checkpointed: Sequence[float]) -> Figures:
    """Return the geometric mean of the rounds' ratios with its 95 % interval."""
    interval = mean_interval([math.log(a / b) for a, b in zip(plain, checkpointed, strict=True)])
    assert interval is not None  # of at least two rounds
    ratio = interval.exp()
    return {key: ratio.estimate, f"{key}_low": ratio.low, f"{key}_high": ratio.high}


def _samples(name: str, sides: Mapping[bool, _Side]) -> dict[str, list[float]]:
    return {
        f"{name}_{'checkpointed' if checkpointing else 'plain'}_{clock}_s": times
        for checkpointing, side in sides.items()
        for clock, times in side.times_s.items()
    }

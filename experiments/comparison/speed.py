"""Speed of several cells, interleaved: alive together, one computing at a time, in launches of fresh processes.

The launch is the unit of replication (Kalibera and Jones 2013): more rounds in the same processes narrow an interval
around a number that another launch would not repeat.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.cells.interleaved_worker import Round, Setting, Shape
from experiments.cells.prompts import Prompts, draw_prompts
from experiments.comparison.timed_tokens import Row, compare_rows
from experiments.comparison.workers import Lost, Runner, Tick, Worker, started
from experiments.config import ComparisonConfig
from experiments.measurement.machine import machine_change, read_machine
from experiments.measurement.memory import available_bytes
from experiments.progress import Deadline
from experiments.records.environment import gpus
from experiments.records.speed import Clock, ratio
from experiments.records.store import SPEED_FILE, SPEED_SCHEMA_VERSION, write_atomic
from experiments.records.timed_work import is_exact, problem

_FEWEST_ROUNDS = 10
_REPEATS = 2
_FORKED_FROM = 3  # candidates
_NARROWEST_LAUNCHES = 4  # below, an interval from a variance of so few values is a guess

Launches = list[dict[str, Any]]
OnLaunch = Callable[[int, Launches], None]  # launches done, the stored launches of the first candidate
Enough = Callable[[dict[Path, Launches]], bool]  # by the folder of a candidate's record: are these all that is wanted?


@dataclass(frozen=True)
class Block:
    """Rounds of one shape in a launch. `threads` None: the cell's own."""

    name: str  # own, long, batched or one_thread
    threads: int | None
    shape: Shape
    rounds: int


def blocks(options: ComparisonConfig) -> list[Block]:
    """Return what each launch measures, in its order."""
    shape = Shape(options.batch, options.prompt_tokens, options.new_tokens)
    found = [Block("own", None, shape, options.rounds)]
    if options.long_new_tokens is not None:
        long = Shape(options.batch, options.prompt_tokens, options.long_new_tokens)
        found.append(Block("long", None, long, options.extra_rounds))
    if options.batched is not None:
        batched = Shape(options.batched, options.prompt_tokens, options.new_tokens)
        found.append(Block("batched", None, batched, options.extra_rounds))
    if options.one_thread_rounds:
        short = Shape(options.batch, options.prompt_tokens, options.one_thread_new_tokens)
        found.append(Block("one_thread", 1, short, options.one_thread_rounds))
    return found


def compare_speed(
    reference: Runner,
    candidates: Sequence[Runner],
    options: ComparisonConfig,
    clock: Clock,
    on_launch: OnLaunch = lambda done, launches: None,
    enough: Enough | None = None,
    deadline: Deadline | None = None,
    tick: Tick = lambda: None,
    fork: bool = False,
) -> dict[Path, str | None]:
    """Run launches and write `speed.json` beside each record after each; return why some candidates have none.

    Without `enough`, as many launches as the options say: a width is of the ratio by `clock`. Cells that do not fit
    into memory together are paired with the reference one by one. `fork`: see `workers.started`.
    """
    if _fit_together([reference, *candidates]):
        groups = [list(candidates)]
    else:
        groups = [[candidate] for candidate in candidates]
    reasons: dict[Path, str | None] = {}
    for group in groups:
        # One import serves all then; two cells are as soon there when each imports for itself.
        comparison = _Comparison(reference, group, options, fork and len(group) >= _FORKED_FROM)
        reasons |= comparison.run(on_launch, enough or _narrow_enough(options, clock), deadline, tick)
    return reasons


class _Comparison:
    """A reference and its candidates, alive together."""

    def __init__(self, reference: Runner, candidates: Sequence[Runner], options: ComparisonConfig, fork: bool):
        self._reference, self._options, self._fork = reference, options, fork
        self._alive = list(candidates)
        self._stored: dict[Path, Launches] = {runner.folder: [] for runner in candidates}
        self._reasons: dict[Path, str | None] = {runner.folder: None for runner in candidates}
        self._own: Launches = []  # the reference's side of each launch

    def run(self, on_launch: OnLaunch, enough: Enough, deadline: Deadline | None, tick: Tick) -> dict[Path, str | None]:
        for number in range(self._options.launches or self._options.most_launches):
            if deadline is not None and deadline.is_over():
                break
            done = launch([self._reference, *self._alive], self._options, tick, self._fork)
            if 0 in done.failures:
                for runner in list(self._alive):
                    self._drop(runner, f"the reference: {done.failures[0]}")
                break
            self._keep(done)
            if not self._alive:
                break
            on_launch(number + 1, self._stored[self._alive[0].folder])
            if enough({runner.folder: self._stored[runner.folder] for runner in self._alive}):
                break
        return self._reasons

    def _keep(self, done: Launch) -> None:
        self._own.append(done.stored(0))
        self._write(self._reference, self._own, None)
        for index, runner in enumerate(list(self._alive), start=1):
            if index in done.failures:
                self._drop(runner, done.failures[index])
                continue
            self._stored[runner.folder].append(done.stored(index))
            self._write(runner, self._stored[runner.folder], None)
            wrong = problem(self._content(runner, self._stored[runner.folder], None), self._agreement(runner))
            if wrong is not None and wrong.is_final:
                self._drop(runner, f"{wrong.status}: {wrong.reason}")

    def _drop(self, runner: Runner, reason: str) -> None:
        self._reasons[runner.folder] = reason
        self._alive.remove(runner)
        self._write(runner, self._stored[runner.folder], reason)

    def _write(self, runner: Runner, launches: Launches, reason: str | None) -> None:
        text = json.dumps(self._content(runner, launches, reason), allow_nan=False)
        write_atomic(runner.folder / SPEED_FILE, text + "\n")

    def _content(self, runner: Runner, launches: Launches, reason: str | None) -> dict[str, Any]:
        return {
            "schema_version": SPEED_SCHEMA_VERSION,
            "against": self._reference.folder.name,
            "options": asdict(self._options),
            "threads": runner.cell.threads,
            "token_rule": "exact" if _is_exact(runner, self._reference) else "share",
            "interleaved": "alive together, one computing at a time, fresh processes for each launch",
            "launch": "fork" if self._fork else "exec",
            "launches": launches,
            "reason": reason,  # why there are not more
        }

    def _agreement(self, runner: Runner) -> dict[str, Any]:
        record = json.loads((runner.folder / "record.json").read_text())
        entries = [entry for entry in record["benchmarks"] if entry["benchmark"] == "agreement"]
        return entries[0]["figures"] if entries else {}


@dataclass
class Launch:
    """What one set of fresh processes gave, by the index of the cell: 0 is the reference."""

    seed: str = field(default_factory=lambda: secrets.token_hex(8))
    rounds: dict[str, dict[int, list[Round]]] = field(default_factory=dict)  # by block
    prompts: dict[str, list[Prompts]] = field(default_factory=dict)  # by block, one for each round
    tokens: dict[int, dict[str, Any]] = field(default_factory=dict)  # how the timed tokens compare
    repeated: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # rounds whose prompts came before
    memory: dict[int, dict[str, int | None]] = field(default_factory=dict)  # peaks, see `measurement.memory`
    failures: dict[int, str] = field(default_factory=dict)  # why a cell gave nothing
    max_batch: dict[int, int | None] = field(default_factory=dict)  # that a cell takes
    threads: int = 1  # at most, of a cell's own
    devices: set[str] = field(default_factory=set)
    machine: dict[str, Any] = field(default_factory=dict)

    def stored(self, index: int) -> dict[str, Any]:
        """Return the launch of a cell as it is kept: its rounds and the reference's, which took turns."""
        sides = {
            name: {
                "candidate": _side(rounds[index]),
                "reference": _side(rounds[0]),
                "batch": len(self.prompts[name][0]),
                "prompt_tokens": [len(prompts[0]) for prompts in self.prompts[name]],
            }
            for name, rounds in self.rounds.items()
            if index in rounds and 0 in rounds
        }
        return {
            **dict.fromkeys(("own", "long", "batched", "one_thread")),
            **sides,
            "tokens": self.tokens.get(index),
            "repeated": self.repeated.get(index),
            "candidate_memory": self.memory[index],
            "reference_memory": self.memory[0],
            "threads": self.threads,
            "device": "cuda" if "cuda" in self.devices else "cpu",
            "machine": self.machine,
            "seed": self.seed,
        }


def launch(
    runners: Sequence[Runner], options: ComparisonConfig, tick: Tick = lambda: None, fork: bool = False
) -> Launch:
    """Start the cells together; for each setting let them load and warm up, then give each its turns."""
    done = Launch(threads=max(runner.cell.threads for runner in runners))
    order = random.Random(done.seed)
    wanted, before = blocks(options), read_machine()
    with started(runners, tick, fork) as workers:
        present = dict(enumerate(workers))
        for is_one_thread in (False, True):
            mine = [block for block in wanted if (block.threads == 1) == is_one_thread]
            # A cell of one thread has measured it by then; on a GPU the host's time says nothing.
            if mine and not (is_one_thread and (done.threads == 1 or "cuda" in done.devices)):
                _measure(done, present, runners, mine, options, order, tick)
    done.machine = machine_change(before)
    return done


def _measure(
    done: Launch,
    present: dict[int, Worker],
    runners: Sequence[Runner],
    mine: Sequence[Block],
    options: ComparisonConfig,
    order: random.Random,
    tick: Tick,
) -> None:
    """Load all cells with the blocks' threads, run the blocks, and compare their tokens."""
    shapes = tuple(block.shape for block in mine)
    cores = _shared_cores(mine[0].threads or done.threads, order)
    for index, worker in list(present.items()):
        setting = Setting(mine[0].threads or runners[index].cell.threads, cores, shapes, options.warmup)
        with _noting(done, present, index):
            worker.send("load", setting)
    for index, worker in list(present.items()):
        with _noting(done, present, index):
            loaded = worker.result()
            done.memory.setdefault(index, loaded["memory"])
            done.devices.add(loaded["device"])
            done.max_batch[index] = loaded["max_batch"]
    for block in mine:
        _run_block(done, present, runners[0].cell.facts.vocabulary, block, options.seconds, order, tick)
        if block.name == "own":
            _repeat(done, present, block)
    for index in [index for index in present if index > 0]:
        if 0 in present:
            with _noting(done, present, 0):  # which is asked
                _compare_tokens(done, present[0], index, runners, [block.name for block in mine])


def _run_block(
    done: Launch,
    present: dict[int, Worker],
    vocabulary: int,
    block: Block,
    seconds: float,
    order: random.Random,
    tick: Tick,
) -> None:
    rounds = done.rounds.setdefault(block.name, {})
    prompts = done.prompts.setdefault(block.name, [])
    until = time.monotonic() + seconds * len(present)
    for number in range(block.rounds):
        if number >= _FEWEST_ROUNDS and time.monotonic() > until:
            break
        key = f"{done.seed} {block.name} {number}"
        prompts.append(draw_prompts(key, block.shape.batch, block.shape.prompt_tokens, vocabulary))
        tick()
        able = [index for index in sorted(present) if block.shape.batch <= (done.max_batch[index] or block.shape.batch)]
        for index in _turns(able, number, order):
            with _noting(done, present, index):
                taken = present[index].ask("round", prompts[-1], block.shape.new_tokens)
                rounds.setdefault(index, []).append(taken)


def _repeat(done: Launch, present: dict[int, Worker], block: Block) -> None:
    """Run the last rounds once more: a runtime that remembers what it was asked is faster then."""
    numbers = range(len(done.prompts[block.name]))[-_REPEATS:]
    for number in numbers:
        for index in sorted(present):
            with _noting(done, present, index):
                again = present[index].ask("round", done.prompts[block.name][number], block.shape.new_tokens)
                times = done.repeated.setdefault(index, {"fresh_s": [], "again_s": []})
                times["fresh_s"].append(done.rounds[block.name][index][number].wall_s)
                times["again_s"].append(again.wall_s)


def _turns(indices: list[int], number: int, order: random.Random) -> list[int]:
    if len(indices) == 2:
        return indices if number % 2 == 0 else indices[::-1]
    order.shuffle(indices)
    return indices


def _compare_tokens(
    done: Launch, reference: Worker, index: int, runners: Sequence[Runner], names: Sequence[str]
) -> None:
    """Add how the cell's timed tokens of these blocks compare with the reference's of the same rounds."""
    rows = [
        Row(prompt, theirs, mine)
        for name in names
        if 0 in done.rounds[name] and index in done.rounds[name]
        for prompts, first, second in zip(
            done.prompts[name], done.rounds[name][0], done.rounds[name][index], strict=False
        )
        for prompt, theirs, mine in zip(prompts, first.tokens, second.tokens, strict=True)
    ]
    exact = _is_exact(runners[index], runners[0])
    done.tokens[index] = compare_rows(
        rows, exact, lambda wanted: reference.ask("score", wanted), done.tokens.get(index)
    )


def _is_exact(runner: Runner, reference: Runner) -> bool:
    return is_exact(runner.cell.resolved["runtime"], reference.cell.resolved["runtime"])


@contextmanager
def _noting(done: Launch, present: dict[int, Worker], index: int) -> Iterator[None]:
    """Turn a worker that was lost into a failure of its cell, which takes no further turns."""
    try:
        yield
    except Lost as lost:
        done.failures[index] = str(lost)
        present.pop(index, None)


def _side(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the rounds of one cell as they are kept: seconds, one for each round; of `steps_s` one for each token."""
    steps = [len(taken.steps_wall_s) for taken in rounds]
    return {
        "prefill": {
            "wall_s": [taken.prefill_wall_s for taken in rounds],
            "cpu_s": [taken.prefill_cpu_s for taken in rounds],
        },
        "decode": {
            "wall_s": [sum(taken.steps_wall_s) / n for taken, n in zip(rounds, steps, strict=True)],
            "cpu_s": [taken.decode_cpu_s / n for taken, n in zip(rounds, steps, strict=True)],
        },
        "steps_s": [[round(seconds, 7) for seconds in taken.steps_wall_s] for taken in rounds],
        "rounds_cpu_s": sum(taken.cpu_s for taken in rounds),
        "between_cpu_s": sum(taken.before_cpu_s for taken in rounds),
        "recompiles": _sum([taken.recompiles for taken in rounds]),
    }


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _shared_cores(threads: int, order: random.Random) -> tuple[int, ...]:
    """Return as many cores as threads, other ones each launch: what a core adds must not become a constant."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(order.sample(cores, min(threads, len(cores))))


def _narrow_enough(options: ComparisonConfig, clock: Clock) -> Enough:
    return lambda stored: (
        not options.launches and all(_is_narrow(launches, options, clock) for launches in stored.values())
    )


def _is_narrow(launches: Launches, options: ComparisonConfig, clock: Clock) -> bool:
    if len(launches) < _NARROWEST_LAUNCHES:
        return False
    intervals = [ratio(launches, phase, clock) for phase in ("decode", "prefill")]
    return all(one is not None and one.high / one.low - 1 <= options.width for one in intervals)


def _fit_together(runners: Sequence[Runner]) -> bool:
    """Say whether the cells' peaks, as measured while each was alone, fit into what the machine has."""
    host, device = (sum(_peak(runner, kind) for runner in runners) for kind in ("host", "device"))
    available = available_bytes()
    on_device = [float(gpu["memory.total"].split()[0]) * 2**20 for gpu in gpus()]  # in MiB
    fits_host = available is None or host < 0.7 * available
    return fits_host and (not on_device or device < 0.8 * on_device[0])


def _peak(runner: Runner, kind: str) -> int:
    record: Mapping[str, Any] = json.loads((runner.folder / "record.json").read_text())
    peaks = [(record["load"] or {}).get(f"peak_{kind}_bytes") or 0]
    peaks += [entry["figures"].get(f"peak_{kind}_bytes") or 0 for entry in record["benchmarks"]]
    return max(peaks)

"""One launch of an interleaved comparison: fresh processes that are alive together and take turns."""

from __future__ import annotations

import dataclasses
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from statistics import median
from typing import Any

from msgspec.structs import replace

from runtime_matrix.experiments.analysis.timed_work import is_exact
from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.evaluation.prompts import Prompts, draw_prompts
from runtime_matrix.experiments.measurement.machine import MachineChange, machine_change, read_machine
from runtime_matrix.experiments.records.audit import Probe, ProbeFailure, Rest, TimedAudit
from runtime_matrix.experiments.records.comparison import (
    Block,
    Launch,
    ObservedBlock,
    PeakMemory,
    ProcessCpu,
    Repeated,
    ServedBlock,
    Side,
    TimedTokens,
    Times,
)
from runtime_matrix.experiments.timing.observed import draw_responses
from runtime_matrix.experiments.timing.runner import Lost, Runner, Tick, Worker, started
from runtime_matrix.experiments.timing.served import ServedTokens, Slice, draw_slice, rows_of
from runtime_matrix.experiments.timing.timed_tokens import TimedRow, compare_rows
from runtime_matrix.experiments.timing.worker import Loaded, Round, Setting, Shape

_FEWEST_ROUNDS = 10
_REPEATS = 2


@dataclass(frozen=True)
class PlannedBlock:
    """Rounds of one shape in a launch. `threads` None: the cell's own number."""

    name: str  # own, long, batched or one_thread
    threads: int | None
    shape: Shape
    rounds: int

    def shape_of(self, runner: Runner) -> Shape:
        """Return the shape of a cell's rounds, which have the cell's own `batch_size` if it has one."""
        rows = runner.cell.config.batch_size
        return self.shape if rows is None else dataclasses.replace(self.shape, batch=rows)


def planned_blocks(options: ComparisonConfig) -> list[PlannedBlock]:
    """Return the blocks of each launch in their order."""
    shape = Shape(options.batch, options.prompt_tokens, options.new_tokens)
    blocks = [PlannedBlock("own", None, shape, options.rounds)]
    if options.long_new_tokens is not None:
        long = Shape(options.batch, options.prompt_tokens, options.long_new_tokens)
        blocks.append(PlannedBlock("long", None, long, options.extra_rounds))
    if options.batched is not None:
        batched = Shape(options.batched, options.prompt_tokens, options.new_tokens)
        blocks.append(PlannedBlock("batched", None, batched, options.extra_rounds))
    if options.one_thread_rounds:
        short = Shape(options.batch, options.prompt_tokens, options.one_thread_new_tokens)
        blocks.append(PlannedBlock("one_thread", 1, short, options.one_thread_rounds))
    return blocks


@dataclass
class RunningLaunch:
    """The results of one set of fresh processes, by the index of the cell; 0 is the reference."""

    seed: str = field(default_factory=lambda: secrets.token_hex(8))
    rounds: dict[str, dict[int, list[Round]]] = field(default_factory=dict)  # by block
    batches: dict[str, dict[int, int]] = field(default_factory=dict)  # by block, rows of each cell's rounds
    prompts: dict[str, list[Prompts]] = field(default_factory=dict)  # by block, one entry per round
    tokens: dict[int, TimedTokens] = field(default_factory=dict)
    repeated: dict[int, Repeated] = field(default_factory=dict)
    memory: dict[int, PeakMemory] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)  # reasons of cells without results
    max_batch: dict[int, int | None] = field(default_factory=dict)  # largest batch of a cell
    banned: dict[int, tuple[int, ...]] = field(default_factory=dict)  # tokens that a cell may leave out of its choice
    remote: set[int] = field(default_factory=set)  # cells that compute elsewhere
    slices: list[Slice] = field(default_factory=list)
    served: dict[int, list[ServedTokens]] = field(default_factory=dict)  # one entry per slice
    observed_s: dict[int, list[float]] = field(default_factory=dict)  # one entry per round
    observed_responses: int = 0  # per round
    rests: dict[int, Rest] = field(default_factory=dict)
    probes: dict[int, Probe] = field(default_factory=dict)
    process_cpu_s: dict[int, float] = field(default_factory=dict)
    threads: int = 1  # largest number of a cell's own
    devices: set[str] = field(default_factory=set)
    machine: MachineChange = field(default_factory=MachineChange)

    def stored(self, index: int) -> Launch:
        """Return the launch of a cell as it is stored: its rounds and those of the reference."""
        return Launch(
            own=self._block("own", index),
            long=self._block("long", index),
            batched=self._block("batched", index),
            one_thread=self._block("one_thread", index),
            tokens=self.tokens.get(index),
            repeated=self.repeated.get(index),
            candidate_memory=self.memory[index],
            reference_memory=self.memory[0],
            threads=self.threads,
            device="cuda" if "cuda" in self.devices else "cpu",
            machine=self.machine,
            seed=self.seed,
            audit=TimedAudit(rest=self.rests[index], probe=self.probes.get(index)) if index in self.rests else None,
            served=self._served(index),
            observed=self._observed(index),
            process_cpu_s=ProcessCpu(candidate=self.process_cpu_s.get(index), reference=self.process_cpu_s.get(0)),
        )

    def add_rest(self, index: int, rest: Rest) -> None:
        """Add what a cell computed after the last round of a setting."""
        before = self.rests.get(index, Rest(wall_s=0.0, cpu_s=0.0))
        self.rests[index] = Rest(wall_s=before.wall_s + rest.wall_s, cpu_s=before.cpu_s + rest.cpu_s)

    def add_probe(self, index: int, probe: Probe | ProbeFailure) -> None:
        """Keep the probe of a cell, if it could be taken."""
        if isinstance(probe, Probe):
            self.probes[index] = probe

    def _served(self, index: int) -> ServedBlock | None:
        if index not in self.served or 0 not in self.served:
            return None
        return ServedBlock(
            candidate=[result.times for result in self.served[index]],
            reference=[result.times for result in self.served[0]],
            concurrency=self.slices[0].concurrency,
        )

    def _observed(self, index: int) -> ObservedBlock | None:
        if index not in self.observed_s or 0 not in self.observed_s:
            return None
        return ObservedBlock(
            candidate=self.observed_s[index], reference=self.observed_s[0], responses=self.observed_responses
        )

    def _block(self, name: str, index: int) -> Block | None:
        rounds = self.rounds.get(name, {})
        if index not in rounds or 0 not in rounds:
            return None
        prompts, batches = self.prompts[name], self.batches[name]
        return Block(
            candidate=_side(rounds[index]),
            reference=_side(rounds[0]),
            batch=batches[index],
            reference_batch=None if batches[0] == batches[index] else batches[0],
            prompt_tokens=[len(round_prompts[0]) for round_prompts in prompts],
        )


def launch(
    runners: Sequence[Runner], options: ComparisonConfig, tick: Tick = lambda: None, fork: bool = False
) -> RunningLaunch:
    """Start the cells together; for each setting, load and warm up all of them, then run their rounds in turns.

    The first runner is the reference. `tick` is called while a process is waited for. `fork`: see `runner.started`.
    """
    running = RunningLaunch(threads=max(runner.cell.threads for runner in runners))
    generator = random.Random(running.seed)
    blocks, before = planned_blocks(options), read_machine()
    with started(runners, tick, fork) as workers:
        present = dict(enumerate(workers))
        for is_one_thread in (False, True):
            setting_blocks = [block for block in blocks if (block.threads == 1) == is_one_thread]
            # With one thread of their own, cells have been measured already; on a GPU, host time is not the cell's.
            if setting_blocks and not (is_one_thread and (running.threads == 1 or "cuda" in running.devices)):
                local = {index: worker for index, worker in present.items() if index not in running.remote}
                if not is_one_thread:
                    _measure(running, present, runners, setting_blocks, options, generator, tick)
                elif len(local) > 1:  # a remote cell's threads cannot be set, nor its CPU time read
                    _measure(running, local, runners, setting_blocks, options, generator, tick)
        _ask_all(running, present, lambda index: ("spent",), running.process_cpu_s.__setitem__)
        gpus = list(read_machine().gpus)  # read while they are warm from the last rounds
    running.machine = replace(machine_change(before), gpus=gpus)
    return running


def _measure(
    running: RunningLaunch,
    present: dict[int, Worker],
    runners: Sequence[Runner],
    blocks: Sequence[PlannedBlock],
    options: ComparisonConfig,
    generator: random.Random,
    tick: Tick,
) -> None:
    """Load all cells with the blocks' threads, run the blocks, and compare their tokens."""
    cores = _shared_cores(blocks[0].threads or running.threads, generator)

    def setting(index: int) -> Setting:
        shapes = tuple(block.shape_of(runners[index]) for block in blocks)
        return Setting(blocks[0].threads or runners[index].cell.threads, cores, shapes, options.warmup)

    _ask_all(running, present, lambda index: ("device",), lambda index, device: running.devices.add(device))

    def on_loaded(index: int, loaded: Loaded) -> None:
        running.memory.setdefault(index, loaded.memory)
        running.max_batch[index], running.banned[index] = loaded.max_batch, loaded.banned
        if loaded.is_remote:
            running.remote.add(index)

    # A GPU's memory is counted for all processes together, so there the cells load one after the other.
    _ask_all(
        running, present, lambda index: ("load", setting(index)), on_loaded, together="cuda" not in running.devices
    )
    for block in blocks:
        _run_block(running, present, runners, block, options.seconds, generator, tick)
        if block.name == "own":
            _repeat(running, present, block, runners[0].cell.facts.vocabulary)
    if options.serving_concurrency is not None and blocks[0].threads is None:
        _serve(running, present, runners[0].cell.facts.vocabulary, options, generator, tick)
    if options.observed_responses is not None and blocks[0].threads is None:
        _observe(running, present, runners[0].cell.facts.vocabulary, options, generator, tick)
    for index in [index for index in present if index > 0]:
        if 0 in present:
            with _noting(running, present, 0):  # the reference scores the tokens
                _compare_tokens(running, present[0], index, runners, [block.name for block in blocks])
    _audit(running, present, blocks)


def _ask_all(
    running: RunningLaunch,
    present: dict[int, Worker],
    order: Callable[[int], tuple[Any, ...]],
    on_result: Callable[[int, Any], None],
    together: bool = True,
) -> None:
    """Send each worker its order and collect the results: from all at the same time, or one after the other."""
    workers = list(present.items())
    for group in [workers] if together else [[pair] for pair in workers]:
        for index, worker in group:
            with _noting(running, present, index):
                worker.send(*order(index))
        for index, worker in group:
            if index in present:
                with _noting(running, present, index):
                    on_result(index, worker.result())


def _run_block(
    running: RunningLaunch,
    present: dict[int, Worker],
    runners: Sequence[Runner],
    block: PlannedBlock,
    seconds: float,
    generator: random.Random,
    tick: Tick,
) -> None:
    """Run the rounds of a block in turns. Cells with a smaller batch take the first prompts of each round."""
    rounds = running.rounds.setdefault(block.name, {})
    prompts = running.prompts.setdefault(block.name, [])
    batches = {index: block.shape_of(runner).batch for index, runner in enumerate(runners)}
    running.batches[block.name] = batches
    vocabulary = runners[0].cell.facts.vocabulary
    end = time.monotonic() + seconds * len(present)
    for number in range(block.rounds):
        if number >= _FEWEST_ROUNDS and time.monotonic() > end:
            break
        key = f"{running.seed} {block.name} {number}"
        prompts.append(draw_prompts(key, max(batches.values()), block.shape.prompt_tokens, vocabulary))
        tick()
        indices = [index for index in sorted(present) if batches[index] <= (running.max_batch[index] or batches[index])]
        for index in _turns(indices, number, generator):
            with _noting(running, present, index):
                result = present[index].ask("round", prompts[-1][: batches[index]], block.shape.new_tokens)
                rounds.setdefault(index, []).append(result)


def _serve(
    running: RunningLaunch,
    present: dict[int, Worker],
    vocabulary: int,
    options: ComparisonConfig,
    generator: random.Random,
    tick: Tick,
) -> None:
    """Let the cells answer slices of load in turns; the first slice of each is not measured."""
    for number in range(options.serving_slices + 1):
        work = draw_slice(f"{running.seed} serving {number}", options, vocabulary)
        if number:
            running.slices.append(work)
        for index in _turns(sorted(present), number, generator):
            tick()
            with _noting(running, present, index):
                result = present[index].ask("serve", work)
                if number:
                    running.served.setdefault(index, []).append(result)


def _observe(
    running: RunningLaunch,
    present: dict[int, Worker],
    vocabulary: int,
    options: ComparisonConfig,
    generator: random.Random,
    tick: Tick,
) -> None:
    """Let the cells observe the same responses in turns; the first round of each is not measured."""
    assert options.observed_responses is not None
    running.observed_responses = options.observed_responses
    for number in range(options.extra_rounds + 1):
        requests = draw_responses(f"{running.seed} observed {number}", options, vocabulary)
        for index in _turns(sorted(present), number, generator):
            tick()
            with _noting(running, present, index):
                duration_s = present[index].ask("observe", requests)
                if number and duration_s is not None:
                    running.observed_s.setdefault(index, []).append(duration_s)


def _repeat(running: RunningLaunch, present: dict[int, Worker], block: PlannedBlock, vocabulary: int) -> None:
    """Repeat the last rounds, to detect runtimes that cache prompts: they are faster then."""
    prompts, batches = running.prompts[block.name], running.batches[block.name]
    for number in range(len(prompts))[-_REPEATS:]:
        length = len(prompts[number][0])
        new = draw_prompts(f"{running.seed} repeated {number}", max(batches.values()), (length,), vocabulary)
        for index in sorted(present):
            with _noting(running, present, index):
                again = present[index].ask("round", prompts[number][: batches[index]], block.shape.new_tokens)
                other = present[index].ask("round", new[: batches[index]], 1)
                times = running.repeated.setdefault(
                    index, Repeated(fresh_s=[], again_s=[], new_prefill_s=[], again_prefill_s=[])
                )
                times.fresh_s.append(running.rounds[block.name][index][number].wall_s)
                times.again_s.append(again.wall_s)
                times.new_prefill_s.append(other.prefill_wall_s)
                times.again_prefill_s.append(again.prefill_wall_s)


def _audit(running: RunningLaunch, present: dict[int, Worker], blocks: Sequence[PlannedBlock]) -> None:
    """Read what ran on after the last round, and take the probe in the setting in which answers are scored."""
    _ask_all(running, present, lambda index: ("rest",), running.add_rest)
    if blocks[0].threads is None:
        _ask_all(running, present, lambda index: ("probe",), running.add_probe, together=False)


def _turns(indices: list[int], number: int, generator: random.Random) -> list[int]:
    if len(indices) == 2:
        return indices if number % 2 == 0 else indices[::-1]
    generator.shuffle(indices)
    return indices


def _compare_tokens(
    running: RunningLaunch, reference: Worker, index: int, runners: Sequence[Runner], names: Sequence[str]
) -> None:
    """Compare the timed tokens of a cell with those of the reference in the same rounds, and add the counts."""
    rows = [
        TimedRow(prompt, reference_tokens, tokens, len(first.tokens[0]))
        for name in names
        if 0 in running.rounds[name] and index in running.rounds[name]
        for prompts, first, second in zip(
            running.prompts[name], running.rounds[name][0], running.rounds[name][index], strict=False
        )
        for prompt, reference_tokens, tokens in zip_longest(prompts[: len(second.tokens)], first.tokens, second.tokens)
        if tokens is not None
    ]
    if names[0] == "own" and 0 in running.served and index in running.served:
        first, second = (rows_of(running.slices, running.served[side]) for side in (0, index))
        rows += [
            TimedRow(prompt, tokens, other, len(tokens))
            for (prompt, tokens), (_, other) in zip(first, second, strict=True)
        ]
    exact, banned = computes_the_same(runners[index], runners[0]), running.banned[index]
    running.tokens[index] = compare_rows(
        rows, exact, lambda requests: reference.ask("score", requests, banned), running.tokens.get(index)
    )


def computes_the_same(runner: Runner, reference: Runner) -> bool:
    """Return whether both compute the same function up to rounding, so that equal tokens are required."""
    exact = is_exact(runner.cell.resolved["runtime"], reference.cell.resolved["runtime"])
    if exact and runner.cell.facts.is_gguf:  # which some engines read as it is, and others dequantized
        return runner.held_form() == reference.held_form()
    return exact


@contextmanager
def _noting(running: RunningLaunch, present: dict[int, Worker], index: int) -> Iterator[None]:
    """Record a lost worker as the failure of its cell, which takes no further turns."""
    try:
        yield
    except Lost as lost:
        running.failures[index] = str(lost)
        present.pop(index, None)


def _side(rounds: Sequence[Round]) -> Side:
    """Return the rounds of one cell as they are stored."""
    steps = [len(result.steps_wall_s) for result in rounds]
    busy = [result.busy_threads for result in rounds]
    return Side(
        prefill=Times(
            wall_s=[result.prefill_wall_s for result in rounds], cpu_s=[result.prefill_cpu_s for result in rounds]
        ),
        decode=Times(
            wall_s=[sum(result.steps_wall_s) / n for result, n in zip(rounds, steps, strict=True)],
            cpu_s=[result.decode_cpu_s / n for result, n in zip(rounds, steps, strict=True)],
        ),
        steps_s=[[round(seconds, 7) for seconds in result.steps_wall_s] for result in rounds],
        rounds_cpu_s=sum(result.cpu_s for result in rounds),
        between_cpu_s=sum(result.before_cpu_s for result in rounds),
        recompiles=_sum([result.recompiles for result in rounds]),
        busy_threads=median(counts) if (counts := [count for count in busy if count is not None]) else None,
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _shared_cores(threads: int, generator: random.Random) -> tuple[int, ...]:
    """Return as many cores as threads, drawn anew per launch, so that a slow core does not bias all launches."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return tuple(generator.sample(cores, min(threads, len(cores))))

"""A launcher with given times, to test comparisons and gates without starting processes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.records.comparison import PeakMemory, Repeated, TimedTokens
from runtime_matrix.experiments.timing.launch import PlannedBlock, RunningLaunch, planned_blocks
from runtime_matrix.experiments.timing.runner import Runner, Tick
from runtime_matrix.experiments.timing.worker import Round

_PREFILL_STEPS = 5  # duration of a prefill, in steps
_PEAK_BYTES = 64 * 2**20


class ScriptedLauncher:
    """Stands for `launch.launch`.

    `step_s(runner, number)` gives the seconds per step of a cell in the launch of that number, from 0. Each round
    varies around it by `noise`, the standard deviation of its logarithm. All timed tokens are the reference's.
    """

    def __init__(self, step_s: Callable[[Runner, int], float], noise: float = 0.005, seed: int = 0):
        self.launches = 0
        self._step_s, self._noise, self._random = step_s, noise, random.Random(seed)

    def __call__(
        self, runners: Sequence[Runner], options: ComparisonConfig, tick: Tick = lambda: None, fork: bool = False
    ) -> RunningLaunch:
        """Return a launch of these cells, the reference first."""
        number, self.launches = self.launches, self.launches + 1
        running = RunningLaunch(seed=f"scripted {number}", threads=max(runner.cell.threads for runner in runners))
        running.devices.add("cpu")
        for block in planned_blocks(options):
            self._fill(running, block, runners, number)
        for index in range(len(runners)):
            rounds = running.rounds["own"][index]
            rows = [row for block in running.rounds.values() for result in block[index] for row in result.tokens]
            running.memory[index] = PeakMemory(peak_host_bytes=_PEAK_BYTES)
            running.repeated[index] = Repeated(fresh_s=[rounds[-1].wall_s], again_s=[rounds[-1].wall_s])
            if index > 0:
                running.tokens[index] = TimedTokens(
                    tokens=sum(map(len, rows)),
                    missing=0,
                    forced=0,
                    forced_top=0,
                    max_gap=0.0,
                    rows=len(rows),
                    same_rows=len(rows),
                )
        tick()
        return running

    def _fill(self, running: RunningLaunch, block: PlannedBlock, runners: Sequence[Runner], number: int) -> None:
        shape, vocabulary = block.shape, runners[0].cell.facts.vocabulary
        running.batches[block.name] = dict.fromkeys(range(len(runners)), shape.batch)
        keys = [f"{running.seed} {block.name} {place}" for place in range(block.rounds)]
        running.prompts[block.name] = [draw_prompts(key, shape.batch, shape.prompt_tokens, vocabulary) for key in keys]
        running.rounds[block.name] = {
            index: [self._round(self._step_s(runner, number), block) for _ in keys]
            for index, runner in enumerate(runners)
        }

    def _round(self, step_s: float, block: PlannedBlock) -> Round:
        seconds = step_s * math.exp(self._random.gauss(0.0, self._noise))
        steps = block.shape.new_tokens - 1
        return Round(
            prefill_wall_s=_PREFILL_STEPS * seconds,
            prefill_cpu_s=_PREFILL_STEPS * seconds,
            steps_wall_s=[seconds] * steps,
            decode_cpu_s=seconds * steps,
            before_cpu_s=0.0,
            recompiles=None,
            tokens=[[0] * block.shape.new_tokens] * block.shape.batch,
        )

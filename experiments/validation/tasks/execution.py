"""The benchmark of the switches of executing generated programs: on against off in turns, without a model's work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.problems.loading import load
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA
from runtime_matrix.experiments.validation.tasks.switched import Opened, Switched

EXECUTION_SWITCHES = {  # name: key of the configuration, in the order of the table
    "early stop of tests": "sandbox.early_stop, failing",
    "early stop of tests that pass": "sandbox.early_stop, passing",
    "adaptive time limits": "sandbox.time_limits (off: fixed), endless",
    "two test workers": "sandbox.workers (off: 1)",
    "more test workers than cores": "sandbox.workers, twice the cores (off: as many)",
    "cached verdicts": "benchmark.code.verdict_cache",
}


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """The options of the benchmark of execution."""

    data: str
    pairs: int = least(1)  # turns of on and off
    damaged: int = least(1)  # versions of each reference, with one random change each
    endless: int = least(1)
    limit: int | None = least(1)  # problems
    only: str | None = None  # switches whose name contains this text


class Execution(Switched[ExecutionConfig]):
    """Each switch of the sandbox, on and off."""

    name = "execution"
    title = "execution"
    data = "the bundled problems, or JSONL of HumanEval or MBPP: references, damaged references, endless programs"
    measures = "the factor that each switch of executing programs gives"
    position = 97
    Config = ExecutionConfig
    switches = EXECUTION_SWITCHES
    heading = "What each switch of executing programs gives"
    conditions = (
        "References of a suite, references with a random change, and endless programs, on against off in turns in "
        "sandboxes that stay open, with two workers if nothing else is said."
    )

    @override
    def check_data(self, config: ExecutionConfig) -> None:
        load(self.path(config), config.limit)

    @staticmethod
    def path(config: ExecutionConfig) -> Path:
        """Return the path of the user's problems, or of the bundled ones."""
        return BUNDLED_DATA / "code.jsonl" if config.data == "bundled" else Path(config.data).expanduser()

    @override
    def options(self, config: ExecutionConfig) -> tuple[int, str | None, JsonObject]:
        names = ("data", "pairs", "damaged", "endless", "limit")
        return config.pairs, config.only, {name: getattr(config, name) for name in names}

    @override
    @contextmanager
    def opened(self, bench: Bench, config: ExecutionConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.execution_switches import ExecutionSwitches

        with ExitStack() as opened:
            yield Opened(ExecutionSwitches(bench, config, self.path(config), opened).all())


TASK = Execution()

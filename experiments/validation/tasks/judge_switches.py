"""The benchmark of the switches of a judged evaluation: a scripted judge of a fixed delay, on against off in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.validation.tasks.switched import Opened, Switched

JUDGE_SWITCHES = {  # name: key of the configuration, in the order of the table
    "four judge calls at once": "judge.concurrency=4 (off: 1)",
    "sixteen judge calls at once": "judge.concurrency=16 (off: 1)",
    "kept judge replies": "judge.cache",
    "judge loaded once": "none: a judge loads once (off: a process per question)",
    "everything, judged answers": "one process, 16 calls at once (off: a process per question, a call after each)",
}


@dataclass(frozen=True, kw_only=True)
class JudgeSwitchesConfig:
    """The options of the benchmark of judging."""

    pairs: int = least(1)  # turns of on and off
    questions: int = least(1)
    delay_s: float = least(0)  # of each reply of the scripted judge
    loads: int = least(0)  # questions, and processes, of the switches of loading; 0 leaves them out
    only: str | None = None  # switches whose name contains this text


class JudgeSwitches(Switched[JudgeSwitchesConfig]):
    """Each switch of a judged evaluation, on and off."""

    name = "judge_switches"
    title = "judge switches"
    data = "the bundled questions, and a scripted judge"
    measures = "the factor that each switch of a judged evaluation gives"
    position = 98
    Config = JudgeSwitchesConfig
    switches = JUDGE_SWITCHES
    heading = "What each switch of a judged evaluation gives"
    conditions = (
        "The calls go to a scripted judge, which replies after a fixed delay, in a child process over loopback; loads "
        "are of the bundled model with transformers. On against off in turns."
    )

    @override
    def options(self, config: JudgeSwitchesConfig) -> tuple[int, str | None, JsonObject]:
        names = ("pairs", "questions", "delay_s", "loads")
        return config.pairs, config.only, {name: getattr(config, name) for name in names}

    @override
    @contextmanager
    def opened(self, bench: Bench, config: JudgeSwitchesConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.judge_switches import opened_switches

        with opened_switches(bench, config) as switches:
            yield Opened(switches)


TASK = JudgeSwitches()

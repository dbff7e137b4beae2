from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from runtime_matrix.experiments.config.compose import CONF
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.schema import SandboxConfig
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.sandbox.checks import plan_checks
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.sandbox.time_limits import measured_unit_s, time_limits
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache

PRESET = build(SandboxConfig, yaml.safe_load((CONF / "config.yaml").read_text())["sandbox"])
OPTIONS = replace(PRESET, time_multiple=10, time_floor=20, time_ceiling=1000, cpu_s=10, wall_s=40.0, memory_mib=256)
SLOW_S = {"small": 0.001, "large": 4.0, "endless": 300.0}  # CPU seconds at a unit of 0.1 s


class FakePool:
    """Takes a known time for each program; `speed` 2 is a machine that is twice as slow."""

    def __init__(self, speed: float = 1.0, failing: tuple[str, ...] = ()):
        self.speed, self.failing = speed, failing
        self.ran: list[str] = []

    def submit(self, program: Program, limits: Limits | None = None) -> Future[Verdict]:
        name = program.code if program.code in SLOW_S else "unit"
        self.ran.append(name)
        status = "failed" if name in self.failing else "passed"
        future: Future[Verdict] = Future()
        future.set_result(Verdict(status, "", self.speed * SLOW_S.get(name, 0.1), 1.0))
        return future


def reference(name: str) -> Program:
    return Program(name, "", "f", calls_check=False)


REFERENCES = {name: reference(name) for name in SLOW_S}


def limits_s(pool: FakePool, references: dict[str, Program | None], path: Path | None = None) -> dict[str, int]:
    limits = time_limits(cast("Pool", pool), OPTIONS, references, path)
    return {name: limits.of(name).cpu_s for name in references}


def test_a_limit_is_a_multiple_of_the_reference_between_floor_and_ceiling() -> None:
    assert limits_s(FakePool(), {**REFERENCES}) == {"small": 2, "large": 40, "endless": 100}


def test_on_a_slower_machine_limits_are_longer_by_as_much(tmp_path: Path) -> None:
    path = tmp_path / "times.sqlite"
    limits_s(FakePool(), {**REFERENCES}, path)
    slower = FakePool(speed=2.0)
    assert limits_s(slower, {**REFERENCES}, path) == {"small": 4, "large": 80, "endless": 200}
    assert set(slower.ran) == {"unit"}, "the references' units are known from the first run"
    assert limits_s(FakePool(speed=2.0), {**REFERENCES}) == {"small": 4, "large": 80, "endless": 200}


def test_wall_time_follows_cpu_time() -> None:
    limits = time_limits(cast("Pool", FakePool()), OPTIONS, {**REFERENCES}, None).of("large")
    assert limits.wall_s >= 5 * limits.cpu_s
    assert limits.memory_mib == OPTIONS.memory_mib


def test_without_a_reference_that_passes_the_median_of_the_others_counts() -> None:
    references = {**REFERENCES, "without": None}
    assert limits_s(FakePool(), references)["without"] == 40
    limits = time_limits(cast("Pool", FakePool(failing=("endless",))), OPTIONS, references, None)
    assert limits.of("endless") == limits.of("without") == replace(limits.of("large"), cpu_s=21, wall_s=210.0)
    assert limits.figures() == {
        "time_limits": "adaptive",
        "time_unit_s": 0.1,
        "time_limits_by_median": 2,
        "least_time_limit_s": 2,
        "largest_time_limit_s": 40,
    }


def test_limits_are_fixed_if_asked_or_if_nothing_is_known() -> None:
    pool = FakePool()
    fixed = time_limits(cast("Pool", pool), replace(OPTIONS, time_limits="fixed"), {**REFERENCES}, None)
    assert (fixed.of("large"), fixed.figures()) == (Limits(10, 256, 40.0), {"time_limits": "fixed"})
    assert pool.ran == []
    assert time_limits(cast("Pool", pool), OPTIONS, {"a": None}, None).figures() == {"time_limits": "fixed"}


def test_a_unit_that_does_not_run_is_an_error() -> None:
    with pytest.raises(UserError, match=r"cannot measure time limits .*sandbox.time_limits=fixed"):
        limits_s(FakePool(failing=("unit",)), {**REFERENCES})


# In the sandbox


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1, Limits(cpu_s=10, wall_s=60.0, memory_mib=256)) as made:
        yield made


ONE_SECOND = Limits(cpu_s=1, wall_s=60.0, memory_mib=256)
TEST = "assert f(1) == 1\nassert f(2) == 2\nassert f(3) == 3\n"


def test_the_unit_runs_in_the_sandbox(pool: Pool) -> None:
    assert 0.005 < measured_unit_s(pool) < 2


ENDED_BY_THE_LIMIT = {
    "a loop": "while True: pass",
    "the signal raises, and the exception ends it": (
        "import signal\ndef late(*_): raise ValueError\nsignal.signal(signal.SIGXCPU, late)\nwhile True: pass"
    ),
    "the signal is handled, and the exception is swallowed": (
        "import signal\ndef late(*_): raise ValueError\nsignal.signal(signal.SIGXCPU, late)\n"
        "while True:\n    try:\n        while True: pass\n    except ValueError: pass"
    ),
    "the signal ends it by a handler": (
        "import os, signal\nsignal.signal(signal.SIGXCPU, lambda *_: os._exit(0))\nwhile True: pass"
    ),
    "the signal is blocked": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXCPU])\nwhile True: pass"
    ),
    "it answers after the limit": (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXCPU])\n"
        "while time.process_time() < 1.2: pass\ndef f(x): return x"
    ),
}


@pytest.mark.parametrize("name", ENDED_BY_THE_LIMIT)
def test_a_program_beyond_its_own_limit_is_a_timeout(pool: Pool, name: str) -> None:
    late = Program(ENDED_BY_THE_LIMIT[name], TEST, "f", calls_check=False)
    verdict = pool.submit(late, ONE_SECOND).result(timeout=60)
    assert (verdict.status, verdict.reason) == ("timeout", "longer than 1 s of CPU time")
    assert verdict.cpu_s is not None
    assert verdict.cpu_s < 3, "its own limit, not the pool's"


def test_a_program_that_waits_for_a_busy_child_is_a_timeout() -> None:
    """The filter of calls denies forking; without it, the limit of wall time remains."""
    forking = "import os\npid = os.fork()\nwhile pid == 0: pass\nos.waitpid(pid, 0)\n"
    limits = Limits(cpu_s=30, wall_s=1.5, memory_mib=256)
    with Pool(1, limits, allow_unsafe=True, without=("seccomp",)) as unsafe:
        verdict = unsafe.submit(Program(forking, TEST, "f", calls_check=False)).result(timeout=60)
    assert (verdict.status, verdict.reason) == ("timeout", "longer than the wall limit")


def test_a_program_that_ends_itself_is_a_crash(pool: Pool) -> None:
    verdict = pool.submit(Program("import os\nos._exit(1)\n", TEST, "f", calls_check=False)).result(timeout=60)
    assert verdict.status == "crash"


def test_a_verdict_counts_far_below_the_present_limit(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path / "verdicts.sqlite", Limits(cpu_s=10))
    program = reference("a")
    cache.keep([(program, Verdict("passed", "", 0.9, 1.0))])
    assert cache.get(program, cpu_s=2) is not None
    assert cache.get(program, cpu_s=1) is None, "a busier machine may say otherwise"
    assert VerdictCache(tmp_path / "verdicts.sqlite", Limits(cpu_s=3)).get(program) is not None
    assert VerdictCache(tmp_path / "verdicts.sqlite", Limits(memory_mib=64)).get(program) is None
    assert VerdictCache(tmp_path / "verdicts.sqlite", Limits(), early_stop=False).get(program) is None
    cache.close()


# Early stop

CHECK = """
def check(candidate):
    expected = 4
    assert candidate(2) == expected
    import math
    assert candidate(3) == math.floor(6.5)
    assert candidate(0) == 0, "zero"
"""


@pytest.mark.parametrize(("calls_check", "test"), [(True, CHECK), (False, TEST)])
def test_without_early_stop_every_check_is_run_and_counted(calls_check: bool, test: str) -> None:
    wrong = "def f(x):\n    return {wrong}\n"
    bodies = {True: ["2 * x", "2 * x if x != 3 else 0", "1"], False: ["x", "x if x != 2 else 0", "0"]}[calls_check]
    programs = [Program(wrong.format(wrong=body), test, "f", calls_check) for body in bodies]
    programs.append(Program("import os\ndef f(x):\n    os._exit(0)\n", test, "f", calls_check))
    programs.append(Program("raise ValueError\n", test, "f", calls_check))
    with Pool(1, ONE_SECOND, early_stop=False) as every, Pool(1, ONE_SECOND) as first:
        all_checks = [every.submit(program).result(timeout=60) for program in programs]
        stopped = [first.submit(program).result(timeout=60) for program in programs]
    assert [(verdict.checks_passed, verdict.checks) for verdict in all_checks] == [
        (3, 3),
        (2, 3),
        (0, 3),
        (0, 3),
        (0, 3),
    ]
    assert [(verdict.checks_passed, verdict.checks) for verdict in stopped] == [(None, None)] * 5
    assert [(verdict.status, verdict.reason) for verdict in all_checks] == [
        (verdict.status, verdict.reason) for verdict in stopped
    ]


def test_the_first_trouble_is_the_verdict_without_early_stop() -> None:
    code = "def f(x):\n    while x == 3: pass\n    return 0\n"
    with Pool(1, ONE_SECOND, early_stop=False) as every:
        verdict = every.submit(Program(code, TEST, "f", calls_check=False)).result(timeout=60)
    assert (verdict.status, verdict.checks_passed) == ("failed", 0)


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("    assert c(1)\n    assert c(2)\n", 2),
        ("    x = c(1)\n    assert x\n    print(x)\n", 1),
        ("    for i in range(3):\n        assert c(i)\n", 1),  # assertions within a loop
        ("    if True:\n        return\n    assert c(2)\n    assert c(3)\n", 1),
        ("    poly = 3\n    assert c(poly)\n    assert c(2)\n", 1),  # hides a name of the prompt
        ("    pass\n", 1),
    ],
)
def test_assertions_are_split_where_that_keeps_their_meaning(body: str, parts: int) -> None:
    checks = plan_checks(f"def check(c):\n{body}", "f", True, "def poly(x):\n    pass\n", split=True)
    assert len(checks) == parts
    assert all(check.kind == "call" for check in checks)
    assert len(plan_checks(f"def check(c):\n{body}", "f", True, split=False)) == 1

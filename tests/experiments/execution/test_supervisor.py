from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.execution import supervisor as supervise
from runtime_matrix.experiments.execution.running import Job, Running
from runtime_matrix.experiments.execution.supervisor import Children, child_environment


def test_a_slow_start_of_the_server_is_shown_as_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[Any] = []
    is_imported = threading.Event()

    class Starting:
        exitcode = 0

        def __init__(self, **_: Any) -> None:
            pass

        def join(self, timeout: float) -> None:
            pass

        def start(self) -> None:
            assert is_imported.wait(10)

    def hear(message: Any) -> None:
        ticks.append(message)
        if len(ticks) == 3:
            is_imported.set()

    children = Children("fork", set(), 1)
    monkeypatch.setattr(children._context, "Process", Starting, raising=False)
    monkeypatch.setattr(supervise, "TICK_S", 0.001)
    children.wait_for_server(hear)
    assert len(ticks) >= 3
    assert set(ticks) == {None}
    heard = len(ticks)
    children.wait_for_server(hear)
    assert len(ticks) == heard  # it is there


def test_children_have_their_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n 2")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = dict(os.environ)
    Children("spawn", set(), 1)
    with child_environment(3):
        assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("3", "PASSIVE")
        assert os.environ["PYTHONWARNINGS"] == "error,ignore:resource_tracker:UserWarning"
        assert not [name for name in os.environ if name.startswith("PYTEST_")]
    assert dict(os.environ) == before


class _Messages:
    """The messages of a process, as its connection gives them."""

    def __init__(self, *messages: tuple[Any, ...]):
        self._messages = list(messages)

    def recv(self) -> tuple[Any, ...]:
        return self._messages.pop(0)


def test_the_cpu_time_of_a_job_is_what_its_process_says_last() -> None:
    shown: list[Any] = []
    job = Job("measure", None, Path(), 1.0, shown.append)  # type: ignore[arg-type]
    receiver = _Messages(("benchmark", "latency"), ("spent", 7.5))
    running = Running(job, None, receiver, None, 1.0, None, cpu_s=3.0, before_cpu_s=2.0)  # type: ignore[arg-type]
    assert running.job_cpu_s == 1.0
    assert not running.receive()
    assert not running.receive()
    assert shown == [("benchmark", "latency")]
    assert running.job_cpu_s == 5.5  # without what the process had used for earlier cells

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from runtime_matrix.experiments.execution import supervisor as supervise
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

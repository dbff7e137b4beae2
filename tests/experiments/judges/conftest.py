"""Retries follow at once, and no key of this machine is sent."""

from __future__ import annotations

import pytest

from runtime_matrix.runtimes import http_calls


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_calls, "_FIRST_WAIT_S", 0.001)

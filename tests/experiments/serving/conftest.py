"""The bundled model under eager, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime_matrix.experiments.serving.served import Served
from tests.experiments.serving.server import client, loaded, with_chat


@pytest.fixture(scope="session")
def bundled(artifacts: Path) -> Iterator[Served]:
    with loaded(artifacts) as served:
        yield with_chat(served)


@pytest.fixture(scope="module")
def http(bundled: Served) -> Iterator[httpx.Client]:
    with client(bundled) as connected:
        yield connected

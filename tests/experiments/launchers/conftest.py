from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.experiments.launchers.local_slurm import LocalSlurm, missing


@pytest.fixture(scope="session")
def slurm_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlurm]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    slurm = LocalSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def slurm(slurm_of_session: LocalSlurm, monkeypatch: pytest.MonkeyPatch) -> LocalSlurm:
    """Return a running Slurm of one node, the one that the commands of Slurm use."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_of_session.configuration))
    return slurm_of_session

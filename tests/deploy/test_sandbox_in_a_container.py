"""The level of the sandbox where a container forbids namespaces and takes capabilities away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SCRIPT = Path(__file__).with_name("contained.py")
OTHER_USER = ("unshare", "--user", "--map-user=10001", "--map-group=10001")
ROOT_ALONE = ("unshare", "--user", "--map-root-user")


def contained(*prefix: str) -> dict[str, Any]:
    """Return what the script prints when the words before it have changed user or capabilities."""
    if (
        shutil.which(prefix[0]) is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"{' '.join(prefix)} does not work here")
    done = subprocess.run(
        [*prefix, sys.executable, str(SCRIPT)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def test_a_user_without_capabilities_reaches_the_level_that_is_required_and_the_note_says_what_is_missing() -> None:
    assert contained(*OTHER_USER) == {
        "level": ["rlimits", "unprivileged", "landlock", "seccomp"],
        "note": "the sandbox has rlimits, unprivileged, landlock, seccomp and lacks namespaces, pids, private_root, "
        "scratch: programs can see which files and processes exist",
    }


@pytest.mark.parametrize("capabilities", ["", ",+setgid", ",+setgid,+setuid"])
def test_root_that_can_become_no_other_user_or_cannot_end_its_processes_is_refused(capabilities: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can keep some capabilities")
    refused = contained("setpriv", f"--bounding-set=-all{capabilities}", "--inh-caps=-all")["refused"]
    assert "this host lacks unprivileged: start it as a user other than root, or set sandbox.allow" in refused


def test_root_of_a_namespace_without_other_users_is_refused() -> None:
    assert "start it as a user other than root" in contained(*ROOT_ALONE)["refused"]

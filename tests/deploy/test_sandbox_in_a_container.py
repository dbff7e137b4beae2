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
SANDBOX = ROOT / "experiments" / "sandbox"
OTHER_USER = ("unshare", "--user", "--map-user=10001", "--map-group=10001")
ROOT_ALONE = ("unshare", "--user", "--map-root-user")


def printed(*command: str) -> str:
    """Return what a command prints; skip where its first program cannot do here what it is asked for."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if done.stderr.startswith(f"{command[0]}: "):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contained(*prefix: str) -> dict[str, Any]:
    """Return what the script prints when the words before it have changed the user."""
    reply: dict[str, Any] = json.loads(printed(*prefix, sys.executable, str(SCRIPT)))
    return reply


def test_a_user_without_capabilities_reaches_the_level_that_is_required_and_the_note_says_what_is_missing() -> None:
    assert contained(*OTHER_USER) == {
        "level": ["rlimits", "unprivileged", "landlock", "seccomp"],
        "note": "the sandbox has rlimits, unprivileged, landlock, seccomp and lacks namespaces, pids, private_root, "
        "scratch: programs can see which files and processes exist",
    }


@pytest.mark.parametrize(
    ("capabilities", "becomes_nobody"),
    [("", False), (",+setgid", False), (",+setgid,+setuid", False), (",+kill,+setgid,+setuid", True)],
)
def test_root_runs_programs_as_another_user_only_if_it_can_end_them(capabilities: str, becomes_nobody: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can keep some capabilities")
    prefix = ("setpriv", f"--bounding-set=-all{capabilities}", "--inh-caps=-all")
    code = f"import sys; sys.path.insert(0, {str(SANDBOX)!r}); import layers; print(layers.become_nobody('/'))"
    assert printed(*prefix, sys.executable, "-I", "-c", code) == f"{becomes_nobody}\n"


@pytest.mark.slow
def test_root_of_a_namespace_without_other_users_is_refused() -> None:
    assert "start it as a user other than root" in contained(*ROOT_ALONE)["refused"]

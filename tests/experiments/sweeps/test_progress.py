"""What a log hears: a line when something begins, and one at least every five seconds while it lasts."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.execution.progress import Deadline, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_over(progress: Progress, clock: Clock, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is said while time goes by in ticks, as they come from a job that says nothing itself."""
    capsys.readouterr()
    for _ in range(round(seconds / 0.5)):
        clock.now += 0.5
        progress.on_message(None)
    return capsys.readouterr().err.splitlines()


def test_a_long_phase_is_not_silent(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(7, clock=clock)
    progress.start("gptq-bundled-auto")
    progress.on_message(("benchmark", "load"))
    progress.on_message(("phase", "weights"))
    progress.on_message(("phase", "building gptq"))
    said = lines_over(progress, clock, 12, capsys)
    assert said == [f"[1/7] gptq-bundled-auto: load: building gptq, {seconds} s" for seconds in (4, 8, 12)]
    progress.on_message(("benchmark", "latency"))
    assert capsys.readouterr().err == "[1/7] gptq-bundled-auto: latency\n"
    assert lines_over(progress, clock, 4.5, capsys) == ["[1/7] gptq-bundled-auto: latency, 4 s"]


def test_frequent_items_are_logged_rarely(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(1, clock=clock)
    progress.start("eager")
    progress.on_message(("benchmark", "code"))
    capsys.readouterr()
    for done in range(1, 100):
        clock.now += 0.125
        progress.on_message(("items", done, 100))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] eager: code 32/100, 4 s, 8 s left",
        "[1/1] eager: code 64/100, 8 s, 4 s left",
        "[1/1] eager: code 96/100, 12 s, 0 s left",
    ]


def test_a_note_is_repeated_and_nothing_is_shown_when_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(1, clock=clock)
    progress.note("speed against eager: launch 2")
    assert lines_over(progress, clock, 5, capsys) == ["speed against eager: launch 2, 4 s"]
    silent = Progress(1, is_enabled=False, clock=clock)
    silent.start("eager")
    assert lines_over(silent, clock, 60, capsys) == []


def test_no_cell_is_started_that_would_end_after_the_deadline() -> None:
    deadline = Deadline(60.0)
    assert not deadline.is_over(10.0)
    assert deadline.is_over(61.0)
    assert not Deadline(None).is_over(1e9)

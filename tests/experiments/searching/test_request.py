from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.searching.request import Level, levels_of, read_request, space_of

FAKE = ("runtime=fake", "runtime@reference=fake", "model=random", "benchmark=[latency,memory]")


def test_goal_and_constraints_are_read_beside_overrides() -> None:
    request, given = read_request(["goal=memory", "constraint.accuracy=0.99", "runtime=eager", "constraint.ttft_s=2"])
    assert request == Constraints("memory", 0.99, None, 2.0)
    assert given.overrides == ["runtime=eager"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("goal=speed", "goal=speed is none of latency, throughput, memory"),
        ("constraint.memory=4", "constraint.memory is not a constraint"),
        ("constraint.accuracy=0", "must be a number above 0"),
        ("constraint.accuracy=high", "must be a number above 0"),
    ],
)
def test_mistakes_are_refused(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_request([word])


def levels(*, launches: int | None, limit: int | None = None, items: bool = True) -> list[tuple[int | None, Any]]:
    benchmark = {"code": {"limit": None}} if items else {"latency": {"batch": [1]}}
    resolved = {"limit": limit, "comparison": {"launches": launches}, "benchmark": benchmark}
    return [(level.items, level.launches) for level in levels_of(resolved)]


def test_levels_end_with_the_users_own_measurement() -> None:
    assert levels(launches=4) == [(25, 2), (100, 2), (None, None)]
    assert levels(launches=4, limit=60) == [(25, 2), (None, None)]
    assert levels(launches=4, limit=20) == [(None, None)]
    assert levels(launches=4, items=False) == [(None, 2), (None, None)]
    assert levels(launches=2, items=False) == [(None, None)]


def test_the_reference_has_the_shared_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search"])
    words = [*FAKE, "runtime.engine.work=1,2", "hw.threads=1", f"results_dir={tmp_path}"]
    space = space_of(read_request(words)[1])
    assert [one.name for one in space.others] == ["runtime.engine.work=1", "runtime.engine.work=2"]
    cell = space.reference.cell(Level(None, None))
    assert (cell.is_reference, cell.threads) == (True, 1)
    screened = space.others[0].cell(Level(None, 2))
    assert screened.config.resume
    assert screened.config.comparison.launches == 2
    assert Path(screened.config.results_dir) == tmp_path / "screening"  # the whole measurement's record stays


def test_the_default_space_is_used_if_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search"])
    space = space_of(read_request(["goal=latency"])[1])
    assert len(space.others) >= 10
    assert all("runtime=" in one.name and "hw.threads=" in one.name for one in space.others)
    cell = space.others[0].cell(Level(25, 2))
    assert (cell.config.limit, cell.config.responses.mode) == (25, "use")


def test_one_candidate_is_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search"])
    with pytest.raises(UserError, match="one candidate is no search"):
        space_of(read_request(["experiment=ablation", "model=random"])[1])

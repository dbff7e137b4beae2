from __future__ import annotations

import random
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.traffic.arrivals import Arrivals, Size, arrival_times, draw_sizes, read_trace


def gaps(kind: Arrivals, rate: float = 5.0, burstiness: float = 1.0, seed: int = 0) -> list[float]:
    times = arrival_times(kind, rate, 20_001, burstiness, random.Random(seed))
    assert times[0] == 0
    assert times == sorted(times)
    return [later - earlier for earlier, later in pairwise(times)]


def variation(values: list[float]) -> float:
    return statistics.stdev(values) / statistics.mean(values)


@pytest.mark.parametrize("kind", ["poisson", "constant", "gamma"])
def test_the_mean_rate_is_the_one_asked_for(kind: Arrivals) -> None:
    assert 1 / statistics.mean(gaps(kind, 5.0, 0.5)) == pytest.approx(5.0, rel=0.05)


def test_gaps_vary_as_their_distribution_does() -> None:
    assert variation(gaps("constant")) == pytest.approx(0, abs=1e-9)
    assert variation(gaps("poisson")) == pytest.approx(1, rel=0.05)
    assert variation(gaps("gamma", burstiness=0.25)) == pytest.approx(2, rel=0.05)  # 1 / √shape
    assert variation(gaps("gamma", burstiness=4)) == pytest.approx(0.5, rel=0.05)


def test_equal_seeds_give_equal_arrivals() -> None:
    assert gaps("poisson", seed=3) == gaps("poisson", seed=3)
    assert gaps("poisson", seed=3) != gaps("poisson", seed=4)


@pytest.mark.parametrize("kind", ["uniform", "lognormal"])
def test_sizes_lie_within_their_ranges(kind: str) -> None:
    sizes = draw_sizes(kind, (128, 32), (4, 64), 5000, random.Random(0))  # type: ignore[arg-type]
    for values, ends in (([s.prompt_tokens for s in sizes], (32, 128)), ([s.new_tokens for s in sizes], (4, 64))):
        assert (min(values), max(values)) == ends
    assert draw_sizes(kind, (7,), (9,), 2, random.Random(0)) == [Size(7, 9)] * 2  # type: ignore[arg-type]


def test_lognormal_sizes_have_the_geometric_mean_as_their_median() -> None:
    sizes = draw_sizes("lognormal", (10, 1000), (1,), 20_000, random.Random(0))
    assert statistics.median(size.prompt_tokens for size in sizes) == pytest.approx(100, rel=0.05)
    assert sum(size.prompt_tokens == 1000 for size in sizes) / 20_000 == pytest.approx(0.1, abs=0.01)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "trace.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_trace_gives_sizes_and_times(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"prompt_tokens": 12, "new_tokens": 5, "at_s": 0}\n\n{"prompt_tokens": 3, "new_tokens": 1, "at_s": 0.5}\n',
    )
    assert read_trace(path, 10) == [Size(12, 5, 0.0), Size(3, 1, 0.5)]
    assert read_trace(path, 1) == [Size(12, 5, 0.0)]
    assert read_trace(written(tmp_path, '{"prompt_tokens": 3, "new_tokens": 1}'), 5) == [Size(3, 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no requests"),
        ("\n\n", "has no requests"),
        ("{", "line 1: expected"),
        ("[1, 2]", "line 1: expected"),
        ("null", "line 1: expected"),
        ('{"prompt_tokens": 12}', "line 1: expected"),
        ('{"prompt_tokens": 0, "new_tokens": 5}', "positive whole numbers"),
        ('{"prompt_tokens": true, "new_tokens": 5}', "positive whole numbers"),
        ('{"prompt_tokens": 1.5, "new_tokens": 5}', "positive whole numbers"),
        ('{"prompt_tokens": 1, "new_tokens": 5, "at_s": NaN}', "at_s must be a number"),
        ('{"prompt_tokens": 1, "new_tokens": 5, "at_s": -1}', "at_s must be a number"),
        ('{"prompt_tokens": 1, "new_tokens": 5, "at_s": "1"}', "at_s must be a number"),
        ('{"prompt_tokens": 1, "new_tokens": 5, "at_s": true}', "at_s must be a number"),
        ('{"prompt_tokens": 1, "new_tokens": 5}\nx', "line 2: expected"),
        (
            '{"prompt_tokens": 1, "new_tokens": 5, "at_s": 1}\n{"prompt_tokens": 1, "new_tokens": 5}',
            "in each line, in ascending order",
        ),
        (
            '{"prompt_tokens": 1, "new_tokens": 5, "at_s": 1}\n{"prompt_tokens": 1, "new_tokens": 5, "at_s": 0}',
            "in ascending order",
        ),
        ("[" * 100_000, "line 1: expected"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_no_trace_is_one_line(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        read_trace(written(tmp_path, text), 10)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_trace(tmp_path / "none.jsonl", 1)

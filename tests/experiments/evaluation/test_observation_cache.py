"""Observed responses are found again by their content, and never anything else in their place."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.observing import observe
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from tests.experiments.evaluation.observed_runtime import FakeObserved, fake_traits, observe_requests, same

REQUEST, OTHER = observe_requests(2)
OBSERVED = observe(FakeObserved(), fake_traits(), [REQUEST])[0]


def opened(path: Path | None, use: bool = True, **identity: str) -> Observations:
    return Observations(path, {"model": "m", **identity}, use)


def kept(path: Path | None, use: bool = True) -> tuple[Observations, bytes]:
    """Return an open cache with one result, and its key."""
    cache = opened(path, use)
    key = cache.key(REQUEST, exact=False)
    cache.keep([(key, OBSERVED)])
    return cache, key


def read(cache: Observations, request: ObserveRequest = REQUEST, exact: bool = False) -> Observed | None:
    key = cache.key(request, exact)
    return cache.get({key: request}, ()).get(key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "observations.sqlite"


def test_results_are_restored_bit_for_bit(path: Path) -> None:
    kept(path)[0].close()
    again = opened(path)
    result = read(again)
    assert result is not None
    assert same(result, OBSERVED)
    assert again.note is None
    again.close()


def test_each_difference_makes_another_request(path: Path) -> None:
    cache, _ = kept(path)
    ids, context, first = REQUEST.ids, REQUEST.context, REQUEST.first_scored
    others = [
        replace(REQUEST, ids=(*ids[:-1], ids[-1] + 1)),
        replace(REQUEST, context=range(context.start - 1, context.stop)),
        replace(REQUEST, context=range(context.start, context.stop - 1)),
        ObserveRequest(ids, range(context.start, min(context.stop, first - 1)), first - 1),
    ]
    assert [read(cache, other) for other in others] == [None] * 4
    assert read(cache, exact=True) is None
    assert read(opened(path, runtime="other")) is None
    assert cache.note is None


def test_without_use_only_own_results_are_read(path: Path) -> None:
    cache, key = kept(path, use=False)
    assert read(cache) is None
    assert cache.get({key: REQUEST}, {key}).keys() == {key}


def test_without_a_path_results_are_in_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache, key = kept(None, use=False)
    assert same(cache.get({key: REQUEST}, {key})[key], OBSERVED)
    assert list(tmp_path.iterdir()) == []
    cache.close()
    assert cache.get({key: REQUEST}, {key}) == {}


def _longer(entry: bytes) -> bytes:
    return struct.pack("<I", 2**31) + entry[4:]


def _without_layers(entry: bytes) -> bytes:
    return entry[:8] + struct.pack("<I", 0) + entry[12:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: b"",
        lambda entry: entry[:10],
        lambda entry: entry[:-1],
        lambda entry: entry + b"\0" * 4,
        lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]),
        lambda entry: b"\x80\x04" + entry[2:],
        _longer,
        _without_layers,
    ],
)
def test_a_damaged_entry_is_computed_again(path: Path, damage: Callable[[bytes], bytes]) -> None:
    cache, key = kept(path)
    with sqlite3.connect(path) as database:
        (entry,) = database.execute("SELECT text FROM observed").fetchone()
        database.execute("UPDATE observed SET text = ?", [damage(entry)])
    database.close()
    assert read(cache) is None
    assert cache.note == f"{path}: 1 damaged entries were computed again"
    cache.keep([(key, OBSERVED)])
    assert read(cache) is not None
    cache.close()


@pytest.mark.parametrize("value", ["a text", 7, None])
def test_an_entry_of_another_type_is_no_result(path: Path, value: object) -> None:
    cache, _ = kept(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE observed SET text = ?", [value])
    database.close()
    assert read(cache) is None
    cache.close()


def test_an_entry_of_another_request_is_computed_again(path: Path) -> None:
    cache, _ = kept(path)
    twin = replace(REQUEST, ids=(REQUEST.ids[0] + 1, *REQUEST.ids[1:]))  # of the same shape
    with sqlite3.connect(path) as database:
        database.execute("UPDATE observed SET key = ?", [cache.key(twin, exact=False)])
    database.close()
    assert read(cache, twin) is None
    assert "damaged" in str(cache.note)


def test_numbers_that_are_not_finite_are_no_result(path: Path) -> None:
    cache, key = kept(path)
    logprobs_T = OBSERVED.logprobs_T.copy()
    logprobs_T[0] = np.nan
    cache.keep([(key, replace(OBSERVED, logprobs_T=logprobs_T))])
    assert read(cache) is None


def test_a_file_of_something_else_costs_only_time(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database" * 100)
    cache, _ = kept(path)
    assert read(cache) is not None
    assert "was damaged: set aside as observations.sqlite.damaged" in str(cache.note)
    cache.close()


def test_a_table_with_other_columns_costs_only_time(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE observed (name TEXT)")
    database.close()
    cache, _ = kept(path)
    assert read(cache) is None
    assert "nothing is stored" in str(cache.note)

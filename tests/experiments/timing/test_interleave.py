"""Launches of real processes, under a runtime whose times and faults are scripted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.records.comparison import Launch, Speed
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.schema import Load, Record
from runtime_matrix.experiments.records.store import read_speed, write_record
from runtime_matrix.experiments.timing.injection import Injection
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.launch import launch
from runtime_matrix.experiments.timing.runner import Runner
from tests.experiments.recorded import make_record

pytestmark = pytest.mark.alone

Compared = Callable[..., Runner]
LAUNCHES, ROUNDS = 2, 3
IMPORTING_S = 60  # a busy machine's


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """Return a maker of cells that are recorded, as far as a comparison reads their records."""

    def compared(name: str, *words: str, injection: Injection | None = None) -> Runner:
        folder = tmp_path / name
        folder.mkdir()
        write_record(folder, unloaded(name))
        return Runner(_cell(tmp_path, *words), folder, injection)

    return compared


def _cell(results: Path, *words: str) -> Cell:
    shape = ["prompt_tokens=[6,8]", "new_tokens=4", "warmup=1", f"rounds={ROUNDS}", f"launches={LAUNCHES}"]
    shape += [f"one_thread_rounds={ROUNDS}", "one_thread_new_tokens=3", "extra_rounds=1"]
    given = ["runtime=fake", "model=random", "benchmark=[latency]", "progress=false", f"results_dir={results}"]
    given += [f"comparison.{word}" for word in shape]
    _, (cell,) = cells(read_arguments([*given, f"time_limit_s={IMPORTING_S}", *words]), "fake", "test")
    return cell


def options(runner: Runner) -> ComparisonConfig:
    return runner.cell.config.comparison


def unloaded(name: str) -> Record:
    """Return a record without a peak of memory."""
    return structs.replace(make_record(name, status="error"), load=None)


def stored(runner: Runner) -> Speed:
    speed = read_speed(runner.folder)
    assert speed is not None
    return speed


def launches(runner: Runner) -> list[Launch]:
    return stored(runner).launches


@pytest.mark.slow
def test_a_crash_does_not_end_the_other_cells(compared: Compared) -> None:
    reference, good = compared("reference"), compared("good")
    dying = compared("dying", "runtime.engine.fault=segfault")
    on_disk: list[int] = []

    def on_launch(done: int, first: Sequence[Launch]) -> None:
        assert len(first) == done
        on_disk.append(len(launches(good)))

    reasons = compare_speed(reference, [dying, good], options(good), Clock.WALL, on_launch)
    assert reasons == {dying.folder: "crash: ended with exit code -11 while it was compared", good.folder: None}
    kept = stored(dying)
    assert (kept.launches, kept.reason) == ([], reasons[dying.folder])
    assert on_disk == [1, 2]
    for one in launches(good):
        assert one.own is not None
        assert one.one_thread is not None
        assert one.batched is not None
        assert one.tokens is not None
        for block in (one.own, one.one_thread):
            assert len(block.candidate.decode.cpu_s) == len(block.reference.prefill.wall_s) == ROUNDS
        assert [len(steps) for steps in one.own.candidate.steps_s] == [3] * ROUNDS
        assert all(6 <= tokens <= 8 for tokens in one.own.prompt_tokens)
        assert one.batched.batch == 8
        assert one.long is None
        assert one.tokens.same_rows == one.tokens.rows == 2 * ROUNDS + 8
        assert one.candidate_memory.peak_host_bytes is not None
        assert one.candidate_memory.peak_host_bytes > 0
    assert len({one.seed for one in launches(good)}) == LAUNCHES  # fresh prompts
    speed = stored(good)
    assert (speed.against, speed.token_rule) == ("reference", "exact")
    assert speed.options["rounds"] == ROUNDS
    assert len(launches(reference)) == LAUNCHES


@pytest.mark.slow
def test_a_hanging_cell_ends_at_its_own_time_limit(compared: Compared) -> None:
    reference, good = compared("reference"), compared("good")
    hanging = compared("hanging", "runtime.engine.fault=hang", "time_limit_s=2")
    start_s = time.monotonic()
    reasons = compare_speed(reference, [hanging, good], replace(options(good), launches=1), Clock.WALL)
    assert reasons == {hanging.folder: "timeout: longer than time_limit_s", good.folder: None}
    assert time.monotonic() - start_s < IMPORTING_S
    assert len(launches(good)) == 1


@pytest.mark.slow
def test_the_message_of_a_runtime_s_exception_is_the_reason(compared: Compared) -> None:
    runners = [compared("reference"), compared("bad", "runtime.engine.fault=unsupported")]
    found = launch(runners, options(runners[0]))
    assert found.failures[1].startswith("unsupported: the fake runtime was told to be unsupported")
    assert list(found.rounds["own"]) == list(found.memory) == [0]


@pytest.mark.slow
def test_cells_have_rounds_of_their_own_batch_size(compared: Compared) -> None:
    runners = [compared("reference"), *(compared(f"rows {rows}", f"batch_size={rows}") for rows in (2, 12))]
    compare_speed(runners[0], runners[1:], replace(options(runners[0]), launches=2), Clock.WALL)
    for runner, rows in zip(runners[1:], (2, 12), strict=True):
        for stored_launch in launches(runner):
            blocks = stored_launch.blocks()
            assert {(block.batch, block.reference_batch) for name, block in blocks.items() if name != "batched"} == {
                (rows, 1)
            }
            assert (blocks["batched"].rows("candidate"), blocks["batched"].rows("reference")) == (rows, 8)
            tokens = stored_launch.tokens
            assert tokens is not None
            assert tokens.same_rows == tokens.rows == 2 * ROUNDS + min(rows, 8)
            assert tokens.tokens == rows * (ROUNDS * 4 + ROUNDS * 3 + 4)
            assert tokens.missing == 0
        assert ratio(launches(runner), "throughput", Clock.WALL) is not None


@pytest.mark.slow
def test_launches_end_when_they_suffice(compared: Compared) -> None:
    reference, candidate = compared("reference"), compared("candidate")
    asked: list[int] = []

    def enough(found: Mapping[Path, Sequence[Launch]]) -> bool:
        asked.append(len(found[candidate.folder]))
        return True

    compare_speed(reference, [candidate], options(candidate), Clock.WALL, enough=enough)
    assert asked == [1]
    assert len(launches(candidate)) == 1


def test_a_known_slowdown_is_measured(compared: Compared) -> None:
    same = compared("same", "runtime.engine.work=200")
    slowed = compared("slowed", "runtime.engine.work=200", injection=Injection("compute", 0.5))
    compare_speed(same, [slowed], replace(options(same), rounds=6), Clock.WALL)
    for phase in ("decode", "prefill"):
        cpu, wall = (ratio(launches(slowed), phase, clock) for clock in (Clock.CPU, Clock.WALL))
        assert cpu is not None
        assert wall is not None
        assert cpu.estimate == pytest.approx(1 / 1.5, rel=0.2)
        assert wall.estimate < 0.95  # a busy machine blurs wall time
    for one in launches(slowed):
        assert one.process_cpu_s is not None
        assert one.own is not None
        for side in ("candidate", "reference"):  # the process has imported torch besides
            spent_s = getattr(one.process_cpu_s, side)
            assert spent_s > getattr(one.own, side).rounds_cpu_s + 0.5


@pytest.mark.slow
def test_cpu_time_of_child_processes_counts_for_the_cell(compared: Compared) -> None:
    same = compared("same", "runtime.engine.work=200")
    with_child = compared("child", "runtime.engine.work=200", injection=Injection("child", 1.0))
    compare_speed(same, [with_child], replace(options(same), rounds=6), Clock.WALL)
    found = ratio(launches(with_child), "decode", Clock.CPU)
    assert found is not None
    assert found.estimate == pytest.approx(0.5, rel=0.25)


@pytest.mark.slow
def test_cells_of_one_thread_need_one_set_of_rounds(compared: Compared) -> None:
    reference, candidate = (compared(name, "hw.threads=1") for name in ("reference", "candidate"))
    compare_speed(reference, [candidate], options(candidate), Clock.WALL)
    assert [one.one_thread for one in launches(candidate)] == [None] * LAUNCHES
    assert ratio(launches(candidate), "decode", Clock.CPU) is not None


@pytest.mark.slow
def test_a_dying_reference_is_the_reason_of_every_candidate(compared: Compared) -> None:
    reference = compared("reference", "runtime.engine.fault=error")
    candidates = [compared("first"), compared("second")]
    reasons = compare_speed(reference, candidates, options(reference), Clock.WALL)
    assert set(reasons) == {candidate.folder for candidate in candidates}
    for reason in reasons.values():
        assert reason == "the reference: error: RuntimeError: the fake runtime was told to fail"


@pytest.mark.slow
def test_cells_too_large_together_are_compared_with_the_reference_one_by_one(
    compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, first, second = (compared(name) for name in ("reference", "first", "second"))
    load = Load(phases_s={}, dtype="float32", device="cpu", peak_host_bytes=1 << 60)
    (second.folder / "record.json").unlink()
    write_record(second.folder, structs.replace(unloaded("second"), load=load))
    together: list[int] = []

    def launched(runners: Sequence[Runner], *_: Any) -> Any:
        together.append(len(runners))
        raise InterruptedError

    monkeypatch.setattr("runtime_matrix.experiments.timing.interleave.launch", launched)
    for candidates in ([first], [first, second]):
        with pytest.raises(InterruptedError):
            compare_speed(reference, candidates, options(first), Clock.WALL)
    assert together == [2, 2]

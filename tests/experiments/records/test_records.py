"""The traps that recorders fall into: foreign scalars, NaN, torn lines, torn files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.assemble import assemble
from runtime_matrix.experiments.records.journal import Journal, not_a_number, read_journal
from runtime_matrix.experiments.records.schema import CellIdentity, Entry, to_plain
from runtime_matrix.experiments.records.store import read_results, write_atomic
from runtime_matrix.experiments.reports.comparison import verdict_lines
from runtime_matrix.experiments.reports.flipped import Flipped
from tests.experiments.recorded import make_record


def test_array_values_become_numbers_and_nan_becomes_null(tmp_path: Path) -> None:
    import torch

    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("benchmark", a=np.float32(0.5), b=torch.tensor([1, 2]), c=math.nan, d={"e": (math.inf, 1)})
    entry = Entry(benchmark="b", status="ok", figures={"a": np.int64(3)}, samples={"s": np.ones(2)})  # type: ignore[dict-item]
    journal.write("benchmark", entry)
    assert read_journal(tmp_path / "journal.jsonl")[1]["figures"] == {"a": 3}
    assert read_journal(tmp_path / "journal.jsonl")[1]["samples"] == {"s": [1.0, 1.0]}
    assert read_journal(tmp_path / "journal.jsonl")[0] == (
        {"event": "benchmark", "a": 0.5, "b": [1, 2], "c": None, "d": {"e": [None, 1]}}
    )
    with pytest.raises(TypeError, match="cannot hold"):
        journal.write("benchmark", a=object())


def test_a_figure_that_is_not_a_number_is_named() -> None:
    assert not_a_number({"accuracy": 0.5, "by": {"a": [1.0, None, np.float32(2)], "b": "NaN"}, "n": 3}) is None
    assert not_a_number({"accuracy": math.nan}) == "accuracy"
    assert not_a_number({"fine": 1.0, "by": {"a": [1.0, np.float64("inf")]}}) == "by.a.1"


def test_a_counter_of_the_wrong_type_is_an_error_of_its_cell() -> None:
    record = make_record("eager")
    identity = {key: value for key, value in to_plain(record).items() if key in CellIdentity.__struct_fields__}
    entry: JsonObject = {"event": "benchmark", "benchmark": "latency", "status": "ok"}
    events: list[JsonObject] = [
        {"event": "cell", "cell": identity},
        entry,
        {**entry, "counters": {"recompiles": "many"}},
    ]
    made = assemble(events, status="ok", reason=None, exit_code=0)
    assert (made.status, len(made.benchmarks)) == ("error", 1)
    assert made.reason is not None
    assert made.reason.startswith("latency recorded a value of the wrong type: Expected `int`, got `str`")
    assert assemble(events, status="timeout", reason="longer", exit_code=1).reason == "longer"


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).write("cell", cell={})
    with open(path, "a") as file:
        file.write('{"event": "bench')
    assert read_journal(path) == [{"event": "cell", "cell": {}}]


def test_a_killed_writer_never_tears_a_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    code = (
        "import sys, itertools, json; from pathlib import Path\n"
        "from runtime_matrix.experiments.records.store import write_atomic\n"
        "for n in itertools.count(): write_atomic(Path(sys.argv[1]), json.dumps([n] * 50000))"
    )
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        assert len(json.loads(path.read_text())) == 50000


def test_a_full_disk_leaves_the_earlier_record_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_atomic(path, "earlier")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "later")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_is_never_rewritten(tmp_path: Path) -> None:
    write_atomic(tmp_path / "record.json", "{}", exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "record.json", "{}", exclusive=True)


def test_damaged_and_foreign_records_are_left_out_with_their_reason(tmp_path: Path) -> None:
    texts = {
        "a": "{",
        "b": '{"schema_version": 99}',
        "c": "[]",
        "d": '{"schema_version": 0}',
        "e": '{"schema_version": 1}',
        "f": json.dumps({**to_plain(make_record("eager")), "status": "fine"}),
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    results, refused = read_results(tmp_path)
    assert results == []
    assert [reason.split(":")[0] for _, reason in refused] == [
        "damaged",
        "schema 99, this program reads up to 2",
        "foreign",
        "older schema 0, which this program cannot migrate",
        "damaged",
        "damaged",
    ]
    assert "$.status" in refused[-1][1]


def test_a_damaged_or_other_comparison_beside_a_record_is_reported(tmp_path: Path) -> None:
    record = make_record("eager")
    folder = tmp_path / record.record_id
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(to_plain(record)))
    (folder / "output_diff.json").write_text('{"schema_version": 99}')
    (folder / "speed.json").write_text("{")
    (result,) = read_results(tmp_path)[0]
    assert result.diff is None
    assert result.speed_problem is not None and result.speed_problem.startswith("speed.json cannot be read")  # noqa: PT018
    assert result.diff_problem is not None
    assert result.diff_problem.startswith("output_diff.json cannot be read: it is not of schema 1")
    assert f"  answers    not compared: {result.diff_problem}" in verdict_lines(result, "another", None)
    assert Flipped(1000).of(result, 1000).reason == result.diff_problem


def test_records_within_the_folder_of_a_cell_are_no_cells(tmp_path: Path) -> None:
    record = make_record("eager")
    for folder in (tmp_path / record.record_id, tmp_path / record.record_id / "runs" / "1"):
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(to_plain(record)))
    assert [result.folder for result in read_results(tmp_path)[0]] == [tmp_path / record.record_id]

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.schema import Entry, Record, Status, to_plain
from runtime_matrix.experiments.records.store import attach, write_record
from runtime_matrix.experiments.sweeps.after_sweep import compare_with_reference
from tests.experiments.recorded import launches, make_record, speed

COMMON = (
    "runtime=fake",
    "model=random",
    "benchmark=[latency]",
    "comparison.prompt_tokens=8",
    "comparison.new_tokens=4",
)


def cell(*words: str) -> Cell:
    _, (made,) = cells(read_arguments([*COMMON, "comparison.warmup=1", "comparison.rounds=2", *words]), "fake", "test")
    return made


@pytest.fixture
def silent() -> Cell:
    """Return a cell whose speed nobody asks for."""
    return cell("comparison.enabled=false")


def recorded(
    results: Path, name: str, *, is_reference: bool = False, digest: str = "d", status: Status = "ok"
) -> Record:
    """Write two items and the record of a cell that answered them, all but the candidates' first right."""
    folder = results / name
    folder.mkdir()
    items = [{"id": str(n), "prompt": "?", "text": "x", "is_right": is_reference or n > 0} for n in range(2)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    made = make_record(name, status=status, is_reference=is_reference)
    record = replace(
        made,
        record_id=name,
        model=replace(made.model, digest=digest),
        benchmarks=[Entry(benchmark="code", items_file="items.jsonl", status="ok")],
    )
    write_record(folder, record)
    return record


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def written(results: Path, name: str = "output_diff.json") -> list[str]:
    return sorted(path.parent.name for path in results.glob(f"*/{name}"))


def test_output_differences_are_written_beside_the_record(silent: Cell, tmp_path: Path) -> None:
    records = [recorded(tmp_path, "one"), recorded(tmp_path, "base", is_reference=True), recorded(tmp_path, "two")]
    compare_with_reference([silent] * 3, records, tmp_path, pytest.fail)
    assert written(tmp_path) == ["one", "two"]
    found = read(tmp_path / "two" / "output_diff.json")
    assert (found["schema_version"], found["against"]) == (1, "base")
    assert found["benchmarks"]["code"]["right_to_wrong"] == 1
    assert written(tmp_path, "speed.json") == []


def test_cells_are_compared_only_with_the_reference_of_their_model(silent: Cell, tmp_path: Path) -> None:
    records = [
        recorded(tmp_path, "base", is_reference=True),
        recorded(tmp_path, "mine"),
        recorded(tmp_path, "stranger", digest="another"),
        recorded(tmp_path, "failed", status="crash"),
    ]
    compare_with_reference([silent] * 4, records, tmp_path, pytest.fail)
    assert written(tmp_path) == ["mine"]


def test_outputs_that_are_not_numbers_do_not_end_the_sweep(silent: Cell, tmp_path: Path) -> None:
    records = [recorded(tmp_path, "base", is_reference=True), recorded(tmp_path, "broken")]
    entry = Entry(benchmark="multiple_choice", items_file="items.jsonl", status="ok")
    for record in records:
        item = {"id": "q", "answer": 0, "predicted": 0, "is_right": True, "logprobs": [-1.0, -2.0], "lengths": [1, 1]}
        item |= {"logprobs": [math.nan, math.nan]} if record.record_id == "broken" else {}
        (tmp_path / record.record_id / "items.jsonl").write_text((json.dumps(item) + "\n") * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        compared = [replace(record, benchmarks=[entry]) for record in records]
        compare_with_reference([silent] * 2, compared, tmp_path, pytest.fail)
    found = read(tmp_path / "broken" / "output_diff.json")["benchmarks"]["multiple_choice"]
    assert found["items"] == 2
    assert "max_logprob_difference" not in found
    assert "right_choice_probability_difference" not in found
    (result,) = attach(records[1:], tmp_path)
    assert result.diff is not None


def test_a_failed_reference_is_not_compared_with(silent: Cell, tmp_path: Path) -> None:
    records = [recorded(tmp_path, "base", is_reference=True, status="timeout"), recorded(tmp_path, "one")]
    compare_with_reference([silent] * 2, records, tmp_path, pytest.fail)
    assert written(tmp_path) == []


def test_outputs_that_cannot_be_compared_have_the_reason(silent: Cell, tmp_path: Path) -> None:
    records = [recorded(tmp_path, name, is_reference=name == "base") for name in ("base", "lost", "torn", "short")]
    (tmp_path / "lost" / "items.jsonl").unlink()
    (tmp_path / "torn" / "items.jsonl").write_text('{"id": "0", "pro')
    (tmp_path / "short" / "items.jsonl").write_text('{"id": "0", "prompt": "?"}\n')
    compare_with_reference([silent] * 4, records, tmp_path, pytest.fail)
    contents = {name: read(tmp_path / name / "output_diff.json") for name in ("lost", "torn", "short")}
    assert all(content["benchmarks"] == {} for content in contents.values())
    assert contents["lost"]["reason"].startswith("code: FileNotFoundError")
    assert contents["torn"]["reason"].startswith("code: JSONDecodeError")
    assert contents["short"]["reason"] == "code: the two cells answered different items (1 and 2)"


def test_a_benchmark_that_cannot_be_compared_does_not_affect_the_others(silent: Cell, tmp_path: Path) -> None:
    records = [recorded(tmp_path, name, is_reference=name == "base") for name in ("base", "one")]
    entries = [Entry(benchmark=name, items_file=f"items-{name}.jsonl", status="ok") for name in ("last_word", "odd")]
    for record in records:
        for name, fields in (("last_word", {"is_right": True}), ("odd", {"number": 1})):
            line = json.dumps({"id": "0", "prompt": "?", **fields})
            (tmp_path / record.record_id / f"items-{name}.jsonl").write_text(line + "\n")
    compared = [replace(record, benchmarks=[*record.benchmarks, *entries]) for record in records]
    compare_with_reference([silent] * 2, compared, tmp_path, pytest.fail)
    content = read(tmp_path / "one" / "output_diff.json")
    assert content["benchmarks"].keys() >= {"code", "last_word"}
    assert content["benchmarks"]["last_word"]["flips"]["estimate"] == 0
    assert content["reasons"] == {"odd": "odd: KeyError: 'is_right'"}


def test_speed_or_the_reason_is_written_beside_the_record(tmp_path: Path) -> None:
    words = ("comparison.launches=1", "time_limit_s=60")
    pairs = [
        (cell(*words), recorded(tmp_path, "base", is_reference=True)),
        (cell(*words), recorded(tmp_path, "good")),
        (cell(*words, "runtime.engine.fault=error"), recorded(tmp_path, "bad")),
    ]
    said: list[str] = []
    compare_with_reference([one for one, _ in pairs], [record for _, record in pairs], tmp_path, said.append)
    assert written(tmp_path, "speed.json") == ["bad", "base", "good"]
    good, bad = (read(tmp_path / name / "speed.json") for name in ("good", "bad"))
    assert (good["against"], len(good["launches"])) == ("base", 1)
    assert (bad["against"], bad["launches"]) == ("base", [])
    assert bad["reason"] == "error: RuntimeError: the fake runtime was told to fail"
    assert said == ["speed against base", "speed against base: launch 1"]


def test_a_complete_comparison_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("base", "resumed", "new", "more", "cut", "other")
    records = [recorded(tmp_path, name, is_reference=name == "base") for name in names]
    kept = replace(speed(launches(1.0), "base"), options=plain(cell().config.comparison))
    others = {
        "resumed": kept,
        "new": replace(kept, reason="crash"),
        "more": replace(kept, options={**kept.options, "launches": 1}),
        "cut": replace(kept, launches=kept.launches[:1]),
        "other": replace(kept, against="base-before"),  # the reference was measured again
    }
    for name, other in others.items():
        (tmp_path / name / "speed.json").write_text(json.dumps(to_plain(other)))
    compared: list[str] = []

    def compare_speed(reference: Any, candidates: Any, *_: Any, **__: Any) -> dict[Path, str | None]:
        compared.extend(one.folder.name for one in candidates)
        return {}

    monkeypatch.setattr("runtime_matrix.experiments.sweeps.after_sweep.compare_speed", compare_speed)
    compare_with_reference([cell()] * 6, records, tmp_path, lambda text: None)
    assert compared == ["new", "more", "cut", "other"]  # `cut`: a deadline came after the first launch
    assert written(tmp_path) == ["cut", "more", "new", "other", "resumed"]

"""A cell is the same over versions of the program, and another one where what is measured differs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.config import BenchmarksConfig
from runtime_matrix.experiments.cells.identity import cell_names, variants
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.records.schema import Record, Sweep
from runtime_matrix.experiments.reports.text import markdown
from tests.experiments.recorded import make_record, result


def record(config_hash: str, config: JsonObject, name: str = "eager") -> Record:
    return replace(make_record(name), config_hash=config_hash, config=config)


OLD: JsonObject = {"seed": 0, "scoring": {"batch": 4}, "benchmark": {"latency": {"batch": [1]}}}
NEW: JsonObject = {
    "seed": 0,
    "scoring": {"batch": 4, "exact": False},
    "benchmark": {"latency": {"batch": [1]}},
    "later": {"a": 1},
}


def test_options_added_by_a_later_version_leave_the_cell_the_same() -> None:
    assert cell_names([record("a", OLD), record("b", NEW), record("b", NEW), record("a", OLD)]) == ["a"] * 4


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"scoring": {"batch": 8, "exact": False}},
        {"benchmark": {"latency": {"batch": [1]}, "memory": {"batch": 1}}},
        {"benchmark": {"latency": {"batch": [1, 4]}}},
    ],
)
def test_options_of_both_versions_must_be_equal(changed: JsonObject) -> None:
    assert cell_names([record("a", OLD), record("b", NEW | changed)]) == ["a", "b"]


def test_within_one_version_the_hash_decides() -> None:
    assert cell_names([record("a", OLD), record("b", OLD)]) == ["a", "b"]
    assert cell_names([record("a", OLD), record("b", NEW, name="compile")]) == ["a", "b"]


def test_paths_are_not_part_of_the_identity() -> None:
    assert cell_names([record("a", OLD | {"results_dir": "x"}), record("b", NEW | {"results_dir": "y"})]) == ["a", "a"]


def test_another_version_of_a_benchmark_is_another_cell() -> None:
    """A record that knows no versions is of the first; a later one may have brought options as well."""
    first, second = (replace(record("b", NEW), benchmark_versions={"latency": version}) for version in (1, 2))
    assert cell_names([record("a", OLD), first]) == ["a", "a"]
    assert cell_names([record("a", OLD), second]) == ["a", "b"]


def test_the_hash_of_a_cell_covers_the_versions_of_its_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = plan(compose(["model=random", "benchmark=[latency]"]), "")
    before = cell.config_hash
    assert cell.config.benchmark.versions() == {"latency": 1}
    later = {"latency": 2}
    monkeypatch.setattr(BenchmarksConfig, "versions", lambda self: later)
    assert cell.config_hash != before
    later["latency"] = 1
    assert cell.config_hash == before  # as in records of before there were versions


def test_rows_over_different_data_are_different_cells() -> None:
    arc = {"multiple_choice": {"data": "arc.jsonl", "limit": 40, "shots": 1}}
    bundled = {"multiple_choice": {"data": "bundled", "limit": 40, "shots": 1}}
    found = [record("a", {"seed": 0, "benchmark": arc}), record("b", {"seed": 0, "benchmark": bundled})]
    assert variants(found, ["a", "b"]) == ["multiple_choice.data=arc.jsonl", "multiple_choice.data=bundled"]
    fewer = record("c", {"seed": 0, "benchmark": {**arc, "latency": {"batch": [1]}}})
    assert variants([found[0], fewer], ["a", "c"]) == [
        "benchmark=[multiple_choice]",
        "benchmark=[multiple_choice,latency]",
    ]
    assert variants([found[0], record("d", {"benchmark": bundled}, name="compile")], ["a", "d"]) == [None, None]
    assert variants([found[0], found[0]], ["a", "a"]) == [None, None]
    many = record(
        "e", {"seed": 1, "benchmark": {"multiple_choice": {"data": "x y", "limit": 1, "shots": 5, "more": 1}}}
    )
    assert variants([found[0], many], ["a", "e"])[1] == (
        "seed=1, multiple_choice.data=xy, multiple_choice.limit=1, multiple_choice.shots=5 and 1 more"
    )


def test_an_unfinished_sweep_is_marked() -> None:
    whole = [
        result(replace(record(name, OLD | {"seed": index}), sweep=Sweep(id="s", cells=3, index=index)))
        for index, name in enumerate("abc")
    ]
    assert [row["sweep_missing_cells"] for row in rows(whole[:2])] == [1, 1]
    assert (
        "UNFINISHED: 1 cell of this sweep is not recorded yet; the same command with resume=true continues"
        in markdown(rows(whole[:2]))
    )
    assert "UNFINISHED" not in markdown(rows(whole))
    assert rows([result(record("a", OLD))])[0]["sweep_missing_cells"] is None


def test_the_code_of_a_benchmark_outside_the_tasks_is_part_of_the_cell() -> None:
    latency, memory, ablation = (
        plan(compose([f"benchmark=[{name}]"]), "a test") for name in ("latency", "memory", "ablation")
    )
    assert latency.code == memory.code
    assert ablation.code.digest != memory.code.digest


def test_strategies_are_told_apart_by_name_and_then_by_their_own_options() -> None:
    vote = {"name": "vote", "samples": 10, "by": "text"}
    records = [
        record("a", {"strategy": {"name": "none"}}),
        record("b", {"strategy": vote}),
        record("c", {"strategy": vote | {"by": "behaviour"}}),
        record("d", {"strategy": {"name": "filter", "samples": 9}}),
    ]
    assert variants(records, list("abcd")) == [
        "strategy=none",
        "strategy=vote, strategy.vote.by=text",
        "strategy=vote, strategy.vote.by=behaviour",
        "strategy=filter",
    ]


def test_a_strategy_is_another_cell_than_an_earlier_record_without_one() -> None:
    earlier, now, voted = (
        record("a", {}),
        record("b", {"strategy": {"name": "none"}}),
        record("c", {"strategy": {"name": "vote"}}),
    )
    assert cell_names([earlier, now, voted]) == ["a", "a", "c"]


def test_judges_are_told_apart_and_none_is_as_before() -> None:
    rule = {"name": "rule", "match": "words"}
    earlier, now, ruled = record("a", {}), record("b", {"judge": {"name": "none"}}), record("c", {"judge": rule})
    assert variants([now, ruled], list("bc")) == ["judge=none", "judge=rule"]
    assert cell_names([earlier, now, ruled]) == ["a", "a", "c"]


def test_options_of_the_calls_are_no_part_of_a_cell() -> None:
    plain = {"name": "server", "url": "http://h", "concurrency": 4, "timeout_s": 1.0, "key_variable": "KEY"}
    assert JudgeChoice.identity_plain(plain) == {"name": "server", "url": "http://h"}

"""`batch_size=N` reaches benchmarks and timed rounds; cells that differ only in how they run have one reference."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, baselines, plan
from runtime_matrix.experiments.cells.identity import variants
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from tests.experiments.recorded import make_record

RUNS = ("model=random", "benchmark=[latency,memory,throughput]")


def planned(*words: str) -> Cell:
    return plan(compose([*RUNS, *words]), "command")


def test_the_benchmarks_with_batches_take_the_batch_size() -> None:
    options = planned("batch_size=8").config.benchmark.options
    assert (options["latency"].batch, options["memory"].batch) == ((8,), 8)
    assert options["throughput"] == planned().config.benchmark.options["throughput"]


def test_each_batch_size_is_a_cell_of_its_own() -> None:
    assert len({planned(*words).config_hash for words in ((), ("batch_size=1",), ("batch_size=8",))}) == 3


def test_a_compiled_engine_is_built_for_the_batch_size() -> None:
    assert planned("batch_size=24", "runtime=tensorrt").config.runtime.engine["max_batch"] == 24


def test_a_batch_size_of_zero_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^batch_size must be at least 1; found 0$"):
        planned("batch_size=0")


def test_a_row_names_the_batch_size_and_not_what_follows_from_it() -> None:
    cells = [planned(f"batch_size={rows}") for rows in ("null", 4, 8)]
    records = [replace(make_record("eager"), config=cell.resolved) for cell in cells]
    assert variants(records, ["a", "b", "c"]) == ["batch_size=null", "batch_size=4", "batch_size=8"]


def test_rows_by_length_are_a_cell_of_their_own_which_the_row_names() -> None:
    cells = [planned(), planned("scoring.rows_by_length={1000: 16}")]
    records = [replace(make_record("eager"), config=cell.resolved) for cell in cells]
    assert len({cell.config_hash for cell in cells}) == 2
    assert "rows_by_length" in str(variants(records, ["a", "b"])[1])
    assert baselines(cells) == {0}


@pytest.mark.parametrize("option", ["generation.prefill_chunk=8", "generation.kv_cache=false"])
def test_a_row_names_how_its_texts_are_generated(option: str) -> None:
    cells = [planned(), planned(option)]
    records = [replace(make_record("eager"), config=cell.resolved) for cell in cells]
    assert len({cell.config_hash for cell in cells}) == 2
    assert variants(records, ["a", "b"])[1] == option


@pytest.mark.parametrize(
    "words",
    [
        ("batch_size=8",),
        ("hw.threads=1",),
        ("generation.token_budget=512",),
        ("generation.prefill_chunk=8",),
        ("generation.kv_cache=false",),
        ("scoring.batch=false",),
        ("comparison.batched=4",),
    ],
)
def test_of_references_that_run_differently_the_first_is_the_baseline(words: tuple[str, ...]) -> None:
    assert baselines([planned(), planned(*words), planned("runtime=onnxruntime", *words)]) == {0}
    assert baselines([planned(*words), planned()]) == {0}


@pytest.mark.parametrize(
    "words", [("seed=1",), ("benchmark.latency.prompt_tokens=[8]",), ("agreement.token_ids=8",), ()]
)
def test_references_of_other_work_are_baselines_of_their_own(words: tuple[str, ...]) -> None:
    assert baselines([planned(), planned(*words)]) == {0, 1}

"""`limit=N` and `sample=N` of a cell reach its benchmarks, are part of its identity, and exclude each other."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks import code, extractive_qa, multiple_choice, perplexity

TWO = "benchmark=[multiple_choice,code]"


def planned(*words: str) -> Cell:
    return plan(compose(list(words)), "command")


def test_a_limit_reaches_every_benchmark_that_has_one() -> None:
    benchmarks = planned("limit=20").config.benchmark
    limits = {name: getattr(options, "limit", None) for name, options in benchmarks.options.items()}
    assert {name for name, limit in limits.items() if limit == 20} == {
        *("perplexity", "multiple_choice", "code", "extractive_qa", "summarization")
    }


def test_a_smaller_limit_of_a_benchmark_stays() -> None:
    words = "benchmark.code.limit=5", "benchmark.multiple_choice.limit=50"
    benchmarks = planned(TWO, "limit=20", *words).config.benchmark
    assert [benchmarks.options[name].limit for name in ("code", "multiple_choice")] == [5, 20]


def test_a_limit_of_the_cell_is_the_same_cell_as_one_of_its_benchmark() -> None:
    cells = planned("benchmark=[code]", "limit=20"), planned("benchmark=[code]", "benchmark.code.limit=20")
    assert cells[0].config_hash == cells[1].config_hash != planned("benchmark=[code]").config_hash


def test_samples_are_cells_of_their_own_and_the_same_for_all_runtimes() -> None:
    hashes = [
        planned(TWO, *words).config_hash for words in ((), ("sample=20",), ("sample=21",), ("sample=20", "seed=1"))
    ]
    assert len(set(hashes)) == 4
    cells = [planned(TWO, "sample=20", f"runtime={name}") for name in ("eager", "onnxruntime")]
    options = [cell.config.benchmark.of(code.TASK) for cell in cells]
    assert options[0] == options[1]
    assert options[0] is not None
    assert len(code.TASK.texts(options[0])["code"]) == 20


def test_the_cell_s_seed_draws() -> None:
    first, second = (planned(TWO, "sample=20", f"seed={seed}").config.benchmark.of(code.TASK) for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert (first.sample, first.sample_seed, second.sample_seed) == (20, 0, 1)
    assert code.TASK.texts(first) != code.TASK.texts(second)


def test_benchmarks_without_items_are_left_as_they_are() -> None:
    benchmarks = planned("sample=7").config.benchmark
    drawn = {name for name, options in benchmarks.options.items() if getattr(options, "sample", None) == 7}
    named = (perplexity, multiple_choice, code, extractive_qa)
    assert drawn == {module.TASK.name for module in named} | {"summarization"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sample=20", "limit=5"), "limit=5 and sample=20 exclude each other: leave out one of them"),
        ((TWO, "sample=20", "benchmark.code.limit=5"), r"sample=20 and limit=5 of benchmark\.code exclude each other"),
        (("experiment=default", "sample=20"), r"sample=20 and limit=400 of benchmark\.multiple_choice exclude"),
        (("benchmark=[latency]", "sample=20"), "sample=20 would be ignored: none of latency has items"),
        (("benchmark=[latency,memory]", "limit=20"), "limit=20 would be ignored: none of latency, memory has items"),
        (("sample=0",), "sample must be at least 1"),
        (("limit=0",), "limit must be at least 1"),
        (("sample=0.1",), "sample must be of the type int; found 0.1"),
    ],
)
def test_what_contradicts_or_would_be_ignored_is_refused(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        planned(*words)


def test_the_part_of_a_shard_is_no_option() -> None:
    resolved = compose([TWO])
    resolved["benchmark"]["code"]["part"] = {"index": 0, "count": 2}
    with pytest.raises(UserError, match=r"benchmark\.code\.part cannot be set"):
        plan(resolved, "command")

"""`model.max_tokens`: where it is refused, what it reaches, which cells it sets apart, and that a cut is exact."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix import load
from runtime_matrix.experiments.cells.cell import Cell, baselines, plan
from runtime_matrix.experiments.cells.identity import variants
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.requests import ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.gates.baseline import asked
from tests.experiments.recorded import make_record

Run = Callable[..., subprocess.CompletedProcess[str]]
LIMIT = 48
UNTIMED = ("comparison.enabled=false", "benchmark=[perplexity]")


def planned(*words: str) -> Cell:
    return plan(compose([*UNTIMED, *words]), "command")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.max_tokens=0",), r"model\.max_tokens must be at least 2; found 0"),
        (("model.max_tokens=-4",), r"model\.max_tokens must be at least 2; found -4"),
        (("model.max_tokens=1",), r"model\.max_tokens must be at least 2; found 1"),
        (("model.max_tokens=true",), r"model\.max_tokens must be of the type int; found True"),
        (("model.max_tokens=64.5",), r"model\.max_tokens must be of the type int; found 64\.5"),
        (("model.max_token=64",), r"model\.max_token is not a known key.*max_tokens.*"),
        (("model.max_tokens=1025",), r"model\.max_tokens=1025 exceeds the model's context of 1024: lower it, or .*"),
        (("model.max_tokens=7",), r"model\.max_tokens=7 is too short for the agreement check: use at least 8, or .*"),
        (("model.max_tokens=64", "comparison.enabled=true"), r"timed rounds of 64 .* 32 new tokens exceed model.*"),
        (("model.max_tokens=64", "benchmark=[memory]"), r"benchmark\.memory: 64 .* exceed model\.max_tokens=64: .*"),
        (
            ("model.max_tokens=25", "benchmark=[extractive_qa]"),
            r"benchmark\.extractive_qa\.max_new_tokens=24 leaves no room for a prompt within model\.max_tokens=25: .*",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_anything_is_measured(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        planned(*words)


def test_the_models_own_length_and_anything_below_it_are_taken() -> None:
    for words in (
        ("model.max_tokens=1024",),
        ("model.max_tokens=8",),
        ("model.max_tokens=2", "agreement.enabled=false"),
    ):
        limit = int(words[0].partition("=")[2])
        cell = planned(*words)
        assert (cell.facts.max_length, cell.source.max_tokens, cell.of_reference.source.max_tokens) == (limit,) * 3
    assert (planned().facts.max_length, planned().source.max_tokens) == (1024, None)


def test_the_smaller_of_a_window_and_the_limit_counts() -> None:
    windows = [planned("model.max_tokens=100", f"benchmark.perplexity.window={size}") for size in (64, 256)]
    assert [cell.config.benchmark.options["perplexity"].window for cell in windows] == [64, 100]
    assert [cell.resolved["benchmark"]["perplexity"]["window"] for cell in windows] == [64, 100]


def test_each_limit_is_a_cell_of_its_own_with_its_own_reference() -> None:
    several = [planned(f"model.max_tokens={limit}") for limit in ("null", 256, 128)]
    assert len({cell.config_hash for cell in several}) == 3
    others = [planned(f"model.max_tokens={limit}", "runtime=onnxruntime") for limit in ("null", 256, 128)]
    assert baselines([*several, *others]) == {0, 1, 2}
    records = [replace(make_record("eager"), config=cell.resolved) for cell in several]
    assert [record.max_tokens for record in records] == [None, 256, 128]
    assert variants(records, ["a", "b", "c"]) == [f"model.max_tokens={limit}" for limit in ("null", 256, 128)]


def test_a_comparison_has_one_limit() -> None:
    reference, (candidate,) = cells(
        read_arguments([*UNTIMED, "runtime=onnxruntime", "model.max_tokens=64"]), "eager", ""
    )
    assert (reference.facts.max_length, candidate.facts.max_length) == (64, 64)
    words = ["-m", *UNTIMED, "runtime=onnxruntime", "model.max_tokens=64,128"]
    with pytest.raises(UserError, match=r"values of model\.max_tokens have no common reference"):
        cells(read_arguments(words), "eager", "")


def test_a_baseline_is_of_one_limit() -> None:
    chosen = "benchmark=[extractive_qa]"
    assert asked(planned(chosen)) != asked(planned(chosen, "model.max_tokens=256"))


def test_scores_of_cut_contexts_are_those_of_contexts_cut_by_hand(run: Run, tmp_path: Path) -> None:
    words = ["the", "quiet", "town", "by", "the", "old", "river", "had", "a", "small", "house", "where", "people"]
    passages = [
        " ".join(words[(number + place) % len(words)] for place in range(10 * number)) for number in range(1, 13)
    ]
    (tmp_path / "passages.txt").write_text("\n".join(passages) + "\n", encoding="utf-8")
    done = run(
        "model=bundled", "benchmark=[last_word]", f"benchmark.last_word.data={tmp_path / 'passages.txt'}",
        f"model.max_tokens={LIMIT}", "comparison.enabled=false", "agreement.enabled=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    (entry,) = record["benchmarks"]
    items = [json.loads(line) for line in (file.parent / entry["items_file"]).read_text().splitlines()]
    with load("eager") as model:
        first = [] if model.text.bos_id is None else [model.text.bos_id]
        rows, counts, cut = [], [], 0
        for passage in passages:
            whole = model.text.encode(passage)
            counts.append(len(whole) - len(model.text.encode(passage.rpartition(" ")[0])))
            most = LIMIT + 1 - len(first)  # the last token is scored and never run
            cut += len(whole) > most
            rows.append((*first, *whole[-most:]))
        assert 3 < cut < len(passages)
        assert entry["figures"]["cut_contexts"] == cut
        requests = [ScoreRequest(row, len(row) - count) for row, count in zip(rows, counts, strict=True)]
        alone = [score(model.runtime, model.traits, [request], ScoringConfig())[0].total for request in requests]
    assert [item["logprob"] for item in items] == pytest.approx(alone, abs=1e-4)
    assert record["config"]["model"]["max_tokens"] == LIMIT

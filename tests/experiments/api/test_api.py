"""The Python API: the documented snippet as a script without a guard, and each function on its own."""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtime_matrix
from runtime_matrix import Matrix, Model, UserError, load, measure, read_matrix
from runtime_matrix.experiments.api import measuring
from runtime_matrix.experiments.config import program
from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.requests import ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.tasks.perplexity import windows
from tests.conftest import ROOT
from tests.experiments.recorded import sweep

SHORT = (
    *("comparison.rounds=2", "comparison.seconds=1", "comparison.extra_rounds=1", "comparison.warmup=1"),
    *("comparison.batched=2", "comparison.one_thread_rounds=0", "benchmark.latency.iterations=2", "progress=false"),
)


def snippet() -> str:
    """Return the code of the page, with a sweep that ends soon."""
    code = (ROOT / "docs" / "python.md").read_text().partition("```python\n")[2].partition("```")[0]
    return code.replace('"comparison.launches=2"', ", ".join(map(repr, ("comparison.launches=2", *SHORT))))


@pytest.mark.slow
def test_the_documented_snippet_runs_unchanged(tmp_path: Path) -> None:
    assert len([line for line in snippet().splitlines() if line]) <= 10
    (tmp_path / "script.py").write_text(snippet())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    scores = [[float(value) for value in line.strip("[]").split(",")] for line in lines if re.match(r"\[-\d", line)]
    assert len(scores) == 2
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert any(line.startswith("(") for line in lines)  # the speedup with its bounds
    assert "onnxruntime" in lines[-1]
    assert "tpot_s_p50" in done.stdout
    assert len(list((tmp_path / "results" / "runs").glob("*/record.json"))) == 2


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with load("eager", "hw=cpu") as loaded:
        yield loaded


def test_scores_cover_the_continuations_alone(model: Model) -> None:
    one, other = model.score("The town of", [" x", " river"])
    ((alone,),) = model.score_all([("The town of", [" x"])])
    assert alone == pytest.approx(one, abs=1e-4)
    assert other < 0
    with pytest.raises(ValueError, match="a context is empty"):
        model.score("", ["x"])
    with pytest.raises(ValueError, match="a continuation is empty"):
        model.score("The town of", [" x", ""])


def test_texts_are_greedy_or_sampled_with_a_seed(model: Model) -> None:
    prompts = ["def add(a, b):\n", "Article: A town.\n\nSummary:"]
    greedy = model.generate(prompts, max_new_tokens=8)
    assert len(greedy) == 2
    assert greedy == model.generate(prompts, max_new_tokens=8)
    (cut,) = model.generate(prompts[0], max_new_tokens=8, stop=[greedy[0][:1]])
    assert cut == ""
    drawn = [model.generate(prompts[0], 16, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_perplexity_is_that_of_the_scores(model: Model) -> None:
    text = "The town lies by a river."
    parts = windows(model.text.encode(text), model.text.bos_id, 4)
    requests = [ScoreRequest(part.ids, part.first_scored) for part in parts]
    scores = score(model.runtime, model.traits, requests, ScoringConfig())
    logprobs = [logprob for part in scores for logprob in part.logprobs]
    assert len(parts) > 1
    assert model.perplexity(text, window=4) == pytest.approx(math.exp(-statistics.fmean(logprobs)), rel=1e-4)
    with pytest.raises(ValueError, match="no token to score"):
        model.perplexity("")
    with pytest.raises(ValueError, match="window=1 must be at least 2"):
        model.perplexity(text, window=1)


def test_a_text_beyond_the_context_is_refused(model: Model) -> None:
    limit = model.cell.facts.max_length
    assert limit is not None
    long = "The town lies by a river. " * limit
    with pytest.raises(ValueError, match=f"a prompt and 8 new tokens exceed the model's context of {limit} tokens"):
        model.generate(["The town", long], max_new_tokens=8)
    with pytest.raises(ValueError, match=f"a prompt and {limit} new tokens exceed"):
        model.generate("", max_new_tokens=limit)
    with pytest.raises(ValueError, match=f"a context and its continuation exceed the model's context of {limit} "):
        model.score(long, [" x"])
    with pytest.raises(ValueError, match=f"window={limit + 1} exceeds the model's context of {limit}"):
        model.perplexity("The town", window=limit + 1)


def test_a_recorded_command_has_absolute_paths_outside_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "_program", lambda: "runtime-matrix ")
    (cell,) = measuring._cells(("model=random", "results_dir=here"))
    assert cell.command == f"runtime-matrix run model=random results_dir={tmp_path / 'here'}"


def test_a_mistake_raises_the_message_of_the_command() -> None:
    with pytest.raises(UserError, match="runtime=eagre is not an option; did you mean 'eager'"):
        load("eagre")
    with pytest.raises(UserError, match="first argument of load is the name of a runtime, such as 'eager'"):
        load("runtime=eager")
    with pytest.raises(UserError, match="benchmark=latncy is not an option"):
        measure("benchmark=[latncy]")


def test_measure_returns_a_row_per_cell_and_failures_with_their_reason(tmp_path: Path) -> None:
    words = ["runtime=fake,eager", "runtime/weights=full,w8a8", "model=random", "benchmark=[memory]"]
    matrix = measure(*words, f"results_dir={tmp_path}", "comparison.enabled=false", "progress=false", "time_limit_s=60")
    assert len(matrix) == 4
    assert {row.status for row in matrix} >= {"ok", "unsupported"}
    assert all(row.reason for row in matrix if row.status != "ok")
    assert [row.record_id for row in read_matrix(tmp_path)] == [row.record_id for row in matrix]


def test_a_matrix_is_rows_a_frame_and_a_page(tmp_path: Path) -> None:
    matrix = read_matrix(sweep(tmp_path / "runs"))
    assert isinstance(matrix[:1], Matrix)
    assert matrix.row("eager").is_reference
    with pytest.raises(KeyError, match="nothing is not one of eager"):
        matrix.row("nothing")
    pytest.importorskip("pandas")
    frame = matrix.to_frame()
    assert list(frame["runtime"]) == [row.runtime for row in matrix]
    assert frame["speedup_ratio"].isna().any()  # unknown is no number
    assert matrix.to_markdown().startswith("| runtime |")
    assert matrix._repr_markdown_() == repr(matrix)
    page = matrix.write_page(tmp_path / "page.html").read_text()
    assert "<html" in page


def test_a_published_matrix_is_read(tmp_path: Path) -> None:
    published = next(ROOT.glob("results/*/matrix.json"))
    assert len(read_matrix(published)) > 2
    with pytest.raises(UserError, match="is not a folder"):
        read_matrix(tmp_path / "nowhere")


def test_the_package_offers_its_names_and_no_others() -> None:
    assert set(runtime_matrix.__all__) <= set(dir(runtime_matrix))
    assert all(getattr(runtime_matrix, name) for name in runtime_matrix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        runtime_matrix.lod  # noqa: B018

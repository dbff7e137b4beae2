"""Known causes are injected on real processes, and `explain` names them: the table that docs/explain.md shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.causes import Side, slower
from runtime_matrix.experiments.analysis.explanation import Explainer
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.records.profile import Profile, read_profile
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.sweeps.sweep import sweep
from tests.experiments.recorded import changed_row, make_record, result

ENGINES = "tests.experiments.injected_engines"
LARGE = (  # products that two threads divide
    "model=random",
    "model/architecture=small",
    "model.architecture.hidden_size=1024",
    "model.architecture.intermediate_size=4096",
)
LEAST = 0.9  # share of injected causes that are named


@dataclass(frozen=True)
class Slow:
    """An injected cause of a slower phase."""

    injected: str
    cause: str
    words: tuple[str, ...]
    model: tuple[str, ...] = ()
    phase: str = "decode"


def engine(name: str, base: str = "eager") -> tuple[str, ...]:
    return (f"runtime={base}", f"runtime.name={name.lower()}", f"runtime.engine.target={ENGINES}:{name}")


SLOW = (
    Slow("a cap of one thread", "fewer threads", engine("Capped"), LARGE, "prefill"),
    Slow("a break in each graph", "graph breaks", engine("Broken", "compile")),
    Slow("float16 without kernels", "fallback", (*engine("Half", "onnxruntime"), "runtime.dtype=float16")),
    Slow("4-bit weights (nf4)", "dequantization", ("runtime=nf4",)),
    Slow("8-bit weights (torchao)", "dequantization", ("runtime=torchao_int8",)),
    Slow("8-bit weights (ONNX Runtime)", "dequantization", ("runtime=onnxruntime_w8",)),
    Slow("the last layers on disk", "transfers", ("runtime=offload",)),
    Slow("20 ms of Python at each call", "launch-bound", engine("Dispatching")),
)
LOSSES = (  # injected, the change that carries it, and the cell and its steps
    ("int8 activations (ONNX Runtime)", "activations", "onnxruntime+w8a8"),
    ("int8 activations (torchao)", "activations", "eager+torchao_int8_dynamic"),
    ("weights rounded to 3 bits", "weights", "eager+rounded3"),
    ("bfloat16", "dtype", "eager"),
    ("noise in the engine's logits", "engine", "noisy+rounded8"),
)
STEPS = (
    ("runtime=eager",),
    ("runtime=onnxruntime",),
    ("runtime=onnxruntime_w8",),
    ("runtime=onnxruntime_w8a8",),
    ("runtime=torchao_int8",),
    ("runtime=eager", "runtime/weights=torchao_int8_dynamic"),
    ("runtime=eager", "runtime/weights=rounded"),
    ("runtime=eager", "runtime.dtype=bfloat16"),
    engine("Noisy"),
    (*engine("Noisy"), "runtime/weights=rounded", "runtime.weights.bits=8"),
)


def planned(words: tuple[str, ...], folder: Path) -> Cell:
    own: tuple[str, ...] = (
        f"results_dir={folder}",
        "progress=false",
        "comparison.enabled=false",
        "benchmark=[divergence]",
    )
    if not any(word.startswith("model") for word in words):
        own = (*own, "benchmark.divergence.tokens=4000")
    else:
        own = (*own[:-1], "benchmark=[memory]", "agreement.enabled=false")
    return plan(compose([*words, *own]), "the command")


def profiled(children: Children, cell: Cell, folder: Path) -> Profile:
    folder.mkdir(parents=True)
    outcome = children.run("profile", cell, folder, 300)
    assert outcome.status == "ok", outcome
    profile, problem = read_profile(folder)
    assert profile is not None, problem
    return profile


def side(cell: Cell, profile: Profile) -> Side:
    """Return a cell as it would be recorded; the injection says that it is slower, so it is not timed."""
    runtime = cell.config.runtime
    record = make_record(runtime.title)
    parts = {"weights": str(runtime.weights["name"]), "placement": str(runtime.placement["name"])}
    record = replace(record, runtime=replace(record.runtime, dtype=runtime.dtype, **parts))
    (row,) = rows([result(record)])
    return Side(result(record), changed_row(row, decode_mbu_ratio=None), profile)  # an invented time has no bandwidth


@pytest.mark.slow
@pytest.mark.alone
def test_injected_causes_are_named(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("torchao")
    table = [*slow_cells(tmp_path), *losses(tmp_path)]
    right = sum(expected == named for _, expected, named, _ in table)
    print("| injected | cause | named | evidence |\n| --- | --- | --- | --- |")
    for injected, expected, named, evidence in table:
        print(f"| {injected} | {expected} | {named if named == expected else f'**{named}**'} | {evidence} |")
    print(f"\n{right} of {len(table)} are right.")
    assert right >= LEAST * len(table)


def slow_cells(folder: Path) -> list[tuple[str, str, str, str]]:
    children = Children("fork", {"llama"}, 2)
    references: dict[tuple[str, ...], Side] = {}
    table = []
    for number, case in enumerate(SLOW):
        if case.model not in references:
            cell = planned(("runtime=eager", *case.model), folder)
            references[case.model] = side(cell, profiled(children, cell, folder / f"reference-{number}"))
        cell = planned((*case.words, *case.model), folder)
        slow = side(cell, profiled(children, cell, folder / f"profile-{number}"))
        found = slower(case.phase, slow, references[case.model])
        table.append((case.injected, case.cause, found.cause, found.evidence))
    return table


def losses(folder: Path) -> list[tuple[str, str, str, str]]:
    sweep([planned(words, folder / "runs") for words in STEPS])
    results, _ = read(folder / "runs")
    matrix = rows(results, all=True)
    table = []
    for injected, change, name in LOSSES:
        (index,) = [
            number
            for number, row in enumerate(matrix)
            if row.runtime == name and (row.dtype == "bfloat16") == (injected == "bfloat16")
        ]
        explained = Explainer(results, matrix).explain(results[index])
        assert explained is not None
        assert explained.ladder is not None
        table.append((injected, change, explained.ladder.fault or "none", explained.ladder.verdict))
    return table

"""The steps between a reference and a cell, and the change that carries most of the loss."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.ladder import Ladder, Recorded, ladder, rungs
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.plain_json import JsonObject
from tests.experiments.recorded import changed_row, make_record, result


def runtime(*words: str) -> JsonObject:
    plain: JsonObject = compose([*words, "model=random", "benchmark=[memory]"])["runtime"]
    return plain


EAGER = runtime("runtime=eager")
W8A8: tuple[str, ...] = ("runtime=onnxruntime_w8a8",)
STEPS: dict[
    tuple[str, ...], dict[tuple[str, ...], float | None]
] = {  # the words of a cell: its steps, and the KL of each
    W8A8: {("runtime=onnxruntime",): 1e-8, ("runtime=onnxruntime_w8",): 1e-5, W8A8: 1.5e-3},
}


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (("runtime=eager",), []),
        (("runtime=onnxruntime",), [("engine", "onnxruntime")]),
        (W8A8, [("engine", "onnxruntime"), ("weights", "onnxruntime+w8"), ("activations", "onnxruntime+w8a8")]),
        (
            ("runtime=onnxruntime_w4a8", "runtime.weights.block_size=64"),
            [("engine", "onnxruntime"), ("weights", "onnxruntime+w4"), ("activations", "onnxruntime+w4a8")],
        ),
        (("runtime=gptq",), [("weights", "gptq")]),
        (("runtime=eager", "runtime.dtype=bfloat16"), [("dtype", "eager")]),
        (
            ("runtime=compile", "runtime.dtype=bfloat16", "runtime/weights=torchao_int8_dynamic"),
            [
                *[("engine", "compile"), ("dtype", "compile"), ("weights", "compile+torchao_int8")],
                ("activations", "compile+torchao_int8_dynamic"),
            ],
        ),
        (("runtime=offload",), [("placement", "offload")]),
    ],
)
def test_steps_are_one_change_apart(words: tuple[str, ...], changes: list[tuple[str, str]]) -> None:
    steps = rungs(runtime(*words), EAGER)
    assert [step.change for step in steps] == [change for change, _ in changes]
    assert [step.title for step in steps][:-1] == [title for _, title in changes][:-1]
    assert not steps or steps[-1].runtime["weights"] == runtime(*words)["weights"]


def test_options_of_the_weights_stay_the_same_below_their_activations() -> None:
    steps = rungs(runtime("runtime=onnxruntime_w4a8", "runtime.weights.block_size=64"), EAGER)
    weights = steps[1].runtime["weights"]
    assert (weights["block_size"], weights["int8_activations"]) == (64, False)


def measured(kls: Mapping[tuple[str, ...], float | None], error: float = 1e-6) -> Ladder:
    """Return the ladder of W8A8 if these cells were measured, with their KL."""
    pairs = []
    for words, kl in {("runtime=eager",): 0.0, **kls}.items():
        plain = runtime(*words)
        record = make_record("-".join(words), is_reference=words == ("runtime=eager",))
        found = result(replace(record, config={**record.config, "runtime": plain}))
        (row,) = rows([found])
        pairs.append((found, changed_row(row, kl_mean=kl, kl_standard_error=error)))
    cell = next(one for one, _ in pairs if one.record.runtime.name == "-".join(W8A8))
    found_ladder = ladder(cell, pairs[0][0], Recorded(pairs))
    assert found_ladder is not None
    return found_ladder


def test_the_change_that_adds_most_is_named() -> None:
    found = measured(STEPS[W8A8])
    assert found.fault == "activations"
    assert found.verdict == "activations: 99 % of the KL that the steps add (1.5e-03 of 1.5e-03 nats)"
    assert [step.kl_added for step in found.steps] == pytest.approx([1e-8, 1e-5 - 1e-8, 1.5e-3 - 1e-5])
    assert measured({**STEPS[W8A8], ("runtime=onnxruntime_w8",): 1.4e-3}).fault == "weights"


def test_what_was_not_measured_decides_nothing() -> None:
    found = measured({words: kl for words, kl in STEPS[W8A8].items() if words != ("runtime=onnxruntime_w8",)})
    assert (found.fault, found.verdict) == (None, "not decided: onnxruntime+w8 not measured")
    assert [step.record_id is None for step in found.steps] == [False, True, False]
    assert found.steps[2].kl_added is None
    without = measured({**STEPS[W8A8], ("runtime=onnxruntime_w8",): None})
    assert without.verdict == "not decided: no divergence was measured for onnxruntime+w8"


def test_rounding_and_noise_are_no_loss() -> None:
    assert measured(dict.fromkeys(STEPS[W8A8], 1e-8)).verdict.startswith("no loss")
    assert measured(STEPS[W8A8], error=1e-2).verdict.startswith("not decided: the steps differ by less")

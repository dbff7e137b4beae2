"""One contract, every runtime: what the core relies on.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.targets import NO_OPTIONS, load_class
from runtime_matrix.experiments.evaluation.prefill import prefill
from runtime_matrix.experiments.execution.worker.loading import make_stepping
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Runtime, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime
from runtime_matrix.runtimes.weights.full import Full
from tests.runtimes import contract_cases, full_attentions, on_card
from tests.runtimes.contract_cases import Case

# What reads quantized checkpoints, and what quantizes by a text, patches transformers when it is imported: these keep
# the contract in a process of their own, which the last tests start. The variable names the cases.
OWN_PROCESS = "RUNTIME_MATRIX_TESTS_OWN_PROCESS"
CHECKPOINTS = contract_cases.checkpoints()
CASES = contract_cases.discovered()
CALIBRATED = [name for name, case in CASES.items() if case.needs_calibration]
HERE = {name: case for name, case in CASES.items() if not case.needs_calibration}
ON_CARD = {f"{name} on a card": name for name in on_card.ENGINES}
if OWN_PROCESS in os.environ:
    HERE, ON_CARD = {name: (CASES | CHECKPOINTS)[name] for name in os.environ[OWN_PROCESS].split(",")}, {}


@dataclass(frozen=True)
class Subject:
    """A loaded runtime, and what it is made from; of one on a card (`case` None) its weights are the stored ones."""

    name: str
    runtime: Runtime
    traits: Traits
    case: Case | None = None


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random Llama of two layers, whose matrices are 64 wide and more: NF4 and AWQ need that."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    folder = tmp_path_factory.mktemp("contract")
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # gptqmodel reads no model without them
        shutil.copy(BUNDLED / "model" / name, folder)
    return folder


def calibration_ids() -> list[list[int]]:
    ids: list[list[int]] = torch.randint(3, 120, (40, 128), generator=torch.Generator().manual_seed(0)).tolist()
    return ids


def load(name: str, case: Case, model: Path, artifacts: Path) -> Subject:
    """Load a case on the host as a cell does, or skip with the reason why this machine cannot."""
    folder, hardware = case.checkpoint or model, Hardware("cpu", 1, artifacts)
    source = ModelSource(case.checkpoint.name if case.checkpoint else "contract", folder)
    ids = calibration_ids() if case.needs_calibration else ()
    try:
        runtime = make_stepping(case.config, "tested here")
        runtime.check(hardware)
        return Subject(name, runtime, runtime.load(source, hardware, lambda phase: nullcontext(), ids), case)
    except Unsupported as error:
        pytest.skip(str(error))


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(name, marks=[pytest.mark.slow] if case.is_slow else []) for name, case in HERE.items()),
        *ON_CARD,
    ],
)
def loaded(request: pytest.FixtureRequest, model: Path, artifacts: Path) -> Iterator[Subject | str]:
    """Yield a runtime of the host, or the name of one that wants a card."""
    if request.param in ON_CARD:
        yield ON_CARD[request.param]
        return
    subject = load(request.param, HERE[request.param], model, artifacts)
    yield subject
    subject.runtime.close()
    subject.runtime.close()  # closing twice is allowed


@pytest.fixture
def subject(loaded: Subject | str, model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    if isinstance(loaded, Subject):
        yield loaded
        return
    with on_card.on_card(loaded, model, artifacts, monkeypatch) as (made, traits, _):
        yield Subject(loaded, on_card.ToHost(made), traits)


@pytest.fixture
def runtime(subject: Subject) -> Runtime:
    return subject.runtime


@pytest.fixture
def tolerance(subject: Subject) -> float:
    """Return how far a logit may be from what it should be."""
    return contract_cases.TOLERANCE if subject.case is None else subject.case.tolerance


@pytest.fixture(scope="module")
def ids_BT() -> torch.Tensor:
    return torch.randint(3, 120, (2, 8), generator=torch.Generator().manual_seed(1))


def all_logits(runtime: Runtime, ids_BT: torch.Tensor) -> torch.Tensor:
    at_BT = torch.arange(ids_BT.shape[1]).expand(ids_BT.shape).contiguous()
    return runtime.forward(ids_BT, [ids_BT.shape[1]] * len(ids_BT), None, at_BT).logits_BKV


def stored_logits(model: Path, ids_BT: torch.Tensor) -> torch.Tensor:
    """Return the logits of the model's own weights, by transformers alone."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        logits: torch.Tensor = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(ids_BT).logits
    return logits


def test_logits_are_eager_s(
    subject: Subject, ids_BT: torch.Tensor, tolerance: float, model: Path, artifacts: Path
) -> None:
    """Over the stored weights; where values are changed, over the same weights under eager."""
    case = subject.case
    if subject.traits.is_scripted:
        pytest.skip("its answers are scripted")
    if case is None or (case.held.keeps_values and case.checkpoint is None):
        expected = stored_logits(model, ids_BT)
    else:
        same = case.under_eager()
        if same is None:
            pytest.skip("its weights are others, and it is eager or eager cannot take them: see the tests below")
        reference = load("eager", same, model, artifacts)
        expected = all_logits(reference.runtime, ids_BT)
        reference.runtime.close()
    found = all_logits(subject.runtime, ids_BT)
    assert found.shape == (2, 8, 128)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_outputs_that_the_traits_do_not_name_are_refused(subject: Subject, ids_BT: torch.Tensor) -> None:
    known = ", ".join(sorted(subject.traits.outputs))
    with pytest.raises(ValueError, match=f"^this runtime has no output hidden, scores: ask for {known}$"):
        subject.runtime.forward(ids_BT, [8, 8], outputs=frozenset({"logits", "scores", "hidden"}))


def test_outputs_beside_logits_are_those_of_whole_attentions(
    subject: Subject, tolerance: float, model: Path, artifacts: Path
) -> None:
    """Rows of different lengths in one batch; over changed weights, transformers computes with the same ones."""
    case, wanted = subject.case, subject.traits.outputs
    if wanted == {"logits"}:
        names = ("eager", "eager_attention", "onnxruntime", "weights nf4", "weights gptq_3bit", "placement offload")
        assert case is None or subject.name not in names
        pytest.skip("it gives logits only")
    weights: Weights = Full()
    if case is not None:
        if case.checkpoint is not None:
            pytest.skip("its checkpoint's layers compute in half precision, with whole attentions too")
        options = {key: value for key, value in case.config.weights.items() if key not in NO_OPTIONS}
        weights = load_class(case.config.weights["target"])(**options)
    if weights.form == "onnx":
        pytest.skip("its weights are quantized in the graph, which transformers cannot run")
    ids_BT = torch.randint(3, 120, (2, 64), generator=torch.Generator().manual_seed(2))
    at_BK, contexts, lengths = torch.tensor([[41, 50, 63], [33, 40, 50]]), [range(2, 40), range(0, 21)], [64, 51]
    found = subject.runtime.forward(ids_BT, lengths, None, at_BK, outputs=wanted, contexts=contexts)
    plain = subject.runtime.forward(ids_BT, lengths, None, at_BK)
    torch.testing.assert_close(found.logits_BKV, plain.logits_BKV, atol=tolerance, rtol=0)
    assert found.external_context_BKLH is not None
    assert found.parametric_knowledge_BKL is not None
    source, hardware = ModelSource("contract", model), Hardware("cpu", 1, artifacts)
    ids = calibration_ids() if weights.needs_calibration else ()
    for row in range(2):
        module = weights.load(LoadRequest(source, subject.traits.dtype, "eager", hardware, ids))
        row_ids = ids_BT[row, : lengths[row]]
        external, knowledge = full_attentions.scores(module, row_ids, at_BK[row].tolist(), contexts[row])
        torch.testing.assert_close(found.external_context_BKLH[row], external, atol=tolerance, rtol=0)
        torch.testing.assert_close(found.parametric_knowledge_BKL[row], knowledge, atol=tolerance, rtol=0)


def test_contexts_that_do_not_fit_are_refused(subject: Subject, ids_BT: torch.Tensor) -> None:
    runtime, wanted = subject.runtime, subject.traits.outputs
    if wanted == {"logits"}:
        pytest.skip("it gives logits only")
    with pytest.raises(ValueError, match=r"^external_context needs the context of each of 2 rows, not 1$"):
        runtime.forward(ids_BT, [8, 8], outputs=wanted, contexts=[range(0, 4)])
    for context in (range(0, 9), range(3, 3), range(-1, 4), range(0, 8, 2)):
        with pytest.raises(ValueError, match="is not a part of a row of 8 tokens"):
            runtime.forward(ids_BT, [8, 8], outputs=wanted, contexts=[range(0, 4), context])
    with pytest.raises(ValueError, match="computed without a cache only"):
        runtime.forward(ids_BT, [8, 8], runtime.new_cache(2, 16), outputs=wanted, contexts=[range(0, 4)] * 2)


def test_cache_equals_recompute_for_rows_of_different_length(
    runtime: Runtime, ids_BT: torch.Tensor, tolerance: float
) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    first = runtime.forward(ids_BT[:, :5].contiguous(), [5, 3], cache).logits_BKV
    torch.testing.assert_close(first[:, 0], torch.stack([whole[0, 4], whole[1, 2]]), atol=tolerance, rtol=0)
    assert cache.lengths == [5, 3]
    second = runtime.forward(torch.stack([ids_BT[0, 5:6], ids_BT[1, 3:4]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(second[:, 0], torch.stack([whole[0, 5], whole[1, 3]]), atol=tolerance, rtol=0)
    assert cache.lengths == [6, 4]


@pytest.mark.parametrize("chunk", [3, 5])
def test_prompts_in_chunks_equal_whole_prompts(
    subject: Subject, ids_BT: torch.Tensor, tolerance: float, chunk: int
) -> None:
    prompts = [row[:length].tolist() for row, length in zip(ids_BT, (8, 2), strict=True)]
    expected_B1V, _ = prefill(subject.runtime, subject.traits, prompts, 4)
    found_B1V, cache = prefill(subject.runtime, subject.traits, prompts, 4, chunk)
    torch.testing.assert_close(found_B1V[:2], expected_B1V[:2], atol=tolerance, rtol=0)
    assert cache.lengths[:2] == [8, 2]
    assert subject.runtime.extends_cache


def test_many_rows_from_one_prefix_equal_separate_rows(
    runtime: Runtime, ids_BT: torch.Tensor, tolerance: float
) -> None:
    rows = torch.stack([ids_BT[0], torch.cat([ids_BT[0, :4], ids_BT[1, 4:]])])
    separate = all_logits(runtime, rows)
    prefix = runtime.new_cache(2, 32)
    runtime.forward(rows[:, :4].contiguous(), [4, 4], prefix)
    shared = prefix.select([0, 0])
    at = torch.arange(4).expand(2, 4).contiguous()
    found = runtime.forward(rows[:, 4:].contiguous(), [4, 4], shared, at).logits_BKV
    torch.testing.assert_close(found, separate[:, 4:], atol=tolerance, rtol=0)
    assert prefix.lengths == [4, 4]


def test_rewound_rows_forget(runtime: Runtime, ids_BT: torch.Tensor, tolerance: float) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    runtime.forward(ids_BT, [8, 8], cache)
    cache.rewind([3, 6])
    assert cache.lengths == [3, 6]
    found = runtime.forward(torch.stack([ids_BT[0, 3:4], ids_BT[1, 6:7]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(found[:, 0], torch.stack([whole[0, 3], whole[1, 6]]), atol=tolerance, rtol=0)
    with pytest.raises(ValueError, match="cannot rewind"):
        cache.rewind([5, 1])


def test_a_row_makes_room_for_another(runtime: Runtime, ids_BT: torch.Tensor, tolerance: float) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    runtime.forward(ids_BT[:, :4].contiguous(), [4, 2], cache)
    runtime.forward(ids_BT[:, :1].contiguous(), [1, 1], cache)  # row 0 goes astray, and is given up
    cache.rewind([5, 2])
    fresh = runtime.new_cache(2, 32)
    runtime.forward(ids_BT.flip(0)[:, :6].contiguous(), [6, 3], fresh)
    cache.replace([0], fresh.select([0]))
    assert cache.lengths == [6, 2]
    found = runtime.forward(torch.stack([ids_BT[1, 6:7], ids_BT[1, 2:3]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(found[:, 0], torch.stack([whole[1, 6], whole[1, 2]]), atol=tolerance, rtol=0)
    assert fresh.lengths == [6, 3]


def test_rows_branch_from_one_prefix_without_a_copy(subject: Subject, ids_BT: torch.Tensor, tolerance: float) -> None:
    if not subject.traits.shares_prefix:
        assert subject.case is None or subject.name not in ("eager", "onnxruntime", "openvino")
        pytest.skip("it shares no prefix")
    runtime = subject.runtime
    rows = torch.stack([torch.cat([ids_BT[0, :4], ids_BT[row, 4:]]) for row in (0, 1)])
    separate = all_logits(runtime, rows)
    trunk = runtime.new_cache(1, 4)
    runtime.forward(rows[:1, :4].contiguous(), [4], trunk)
    branch = runtime.branch(trunk, 2, 4)
    assert branch.lengths == [4, 4]
    at_BK = torch.tensor([[0, 1], [0, 0]])
    found = runtime.forward(rows[:, 4:6].contiguous(), [2, 1], branch, at_BK).logits_BKV
    torch.testing.assert_close(found[0], separate[0, 4:6], atol=tolerance, rtol=0)
    torch.testing.assert_close(found[1, 0], separate[1, 4], atol=tolerance, rtol=0)
    assert branch.lengths == [6, 5]
    below = branch.select([1, 0, 1])
    new = torch.stack([rows[1, 5:7], rows[0, 6:8], rows[1, 5:7]])
    at_BK = torch.arange(2).expand(3, 2).contiguous()
    found = runtime.forward(new, [2, 2, 2], below, at_BK).logits_BKV
    expected = torch.stack([separate[1, 5:7], separate[0, 6:8], separate[1, 5:7]])
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    below.rewind([5, 6, 5])
    found = runtime.forward(new[:, :1].contiguous(), [1, 1, 1], below).logits_BKV
    torch.testing.assert_close(found[:, 0], expected[:, 0], atol=tolerance, rtol=0)
    with pytest.raises(ValueError, match="cannot rewind"):
        below.rewind([3, 3, 3])
    assert trunk.lengths == [4]


@pytest.mark.slow
def test_compile_counts_its_graphs(model: Path, artifacts: Path, ids_BT: torch.Tensor) -> None:
    runtime = Compiled(batch_buckets=[2], token_buckets=[8])
    runtime.load(ModelSource("contract", model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    for _ in range(2):
        cache = runtime.new_cache(2, 32)
        runtime.forward(ids_BT, [8, 8], cache)
        runtime.forward(ids_BT[:, :1].contiguous(), [1, 1], cache)
    assert runtime.counters().items() >= {"compiled_graphs": 2, "recompiles": 0, "graph_breaks": 0}.items()


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install 'runtime-matrix\[onnx\]'"):
        OnnxRuntime().load(ModelSource("tiny"), Hardware("cpu", 1), lambda name: nullcontext())


def test_a_missing_compiler_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match=r"install g\+\+"):
        Compiled().load(ModelSource("tiny"), Hardware("cpu", 1), lambda name: nullcontext())


@pytest.mark.skipif(OWN_PROCESS not in os.environ, reason="runs in a process of its own")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_s_logits_are_those_of_the_package_that_made_it(name: str, artifacts: Path) -> None:
    expected = json.loads((contract_cases.CHECKPOINTS / name / "expected.json").read_text())
    runtime = load(name, CHECKPOINTS[name], contract_cases.CHECKPOINTS, artifacts).runtime
    found = runtime.forward(torch.tensor(expected["token_ids"]), [8, 8]).logits_BKV[:, 0]
    # Quantizing moved these logits by 0.064 and 0.073; the kernels of then and now round in float16 and bfloat16.
    torch.testing.assert_close(found, torch.tensor(expected["last_logits"]), atol=5e-3, rtol=0)


def in_a_process_of_its_own(names: Sequence[str]) -> list[str]:
    """Run the contract of these cases; return the names of the tests that passed, each with its case."""
    if importlib.util.find_spec("gptqmodel") is None:  # importing it here would patch transformers
        pytest.skip("gptqmodel is not installed: pip install 'runtime-matrix[gptq]'")
    chosen = " or ".join(names)
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "-W", "ignore", __file__, "-k", chosen]
    environment = {**os.environ, OWN_PROCESS: ",".join(names), "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split("::")[1].split() for line in done.stdout.splitlines() if "::" in line]
    return [words[0] for words in lines if words[1:2] == ["PASSED"]]


@pytest.mark.slow
@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="starts itself")
def test_checkpoints_of_other_makers_keep_the_contract() -> None:
    passed = in_a_process_of_its_own(["autogptq", "autoawq"])
    for name in ("autogptq", "autoawq"):
        assert f"test_a_checkpoint_s_logits_are_those_of_the_package_that_made_it[{name}]" in passed
        assert f"test_rewound_rows_forget[{name}]" in passed


@pytest.mark.slow
@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="starts itself")
def test_weights_that_are_made_by_a_text_keep_the_contract() -> None:
    passed = in_a_process_of_its_own(CALIBRATED)
    assert {"gptq", "awq"} <= set(CALIBRATED)
    for name in CALIBRATED:
        assert f"test_rewound_rows_forget[{name}]" in passed

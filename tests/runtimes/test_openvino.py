"""OpenVINO: the answers of eager, in the dtype, the weights and the threads that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines import exported_graph
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.graph_forms import Past
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime
from runtime_matrix.runtimes.engines.openvino import OpenVino, compile_graph
from runtime_matrix.runtimes.weights.full import Full
from runtime_matrix.runtimes.weights.onnx_packed import Blocks, DynamicInt8

openvino = pytest.importorskip("openvino")
MODEL = ModelSource("openvino", BUNDLED / "model")
# A prompt of the bundled vocabulary of 2048, with no meaning.
PROMPT_1T = torch.randint(3, 2000, (1, 24), generator=torch.Generator().manual_seed(2))


@contextmanager
def running(runtime: Runtime, artifacts: Path, threads: int = 1) -> Iterator[tuple[Runtime, Traits]]:
    try:
        yield runtime, runtime.load(MODEL, Hardware("cpu", threads, artifacts), lambda name: nullcontext())
    finally:
        runtime.close()


def log_probabilities(runtime: Runtime, ids_1T: torch.Tensor) -> torch.Tensor:
    at_1T = torch.arange(ids_1T.shape[1])[None]
    return runtime.forward(ids_1T, [ids_1T.shape[1]], None, at_1T).logits_BKV.log_softmax(-1)


def greedy(runtime: Runtime, steps: int = 24) -> list[int]:
    cache, next_1T, chosen = runtime.new_cache(1, 64), PROMPT_1T, []
    for _ in range(steps):
        next_1T = runtime.forward(next_1T, [next_1T.shape[1]], cache).logits_BKV.argmax(-1)
        chosen.append(int(next_1T))
    return chosen


def distance(runtime: Runtime, other: Runtime) -> float:
    return float((log_probabilities(runtime, PROMPT_1T) - log_probabilities(other, PROMPT_1T)).abs().max())


def test_the_bundled_model_answers_as_under_eager(artifacts: Path) -> None:
    with running(OpenVino(), artifacts) as (runtime, traits), running(Eager(), artifacts) as (eager, _):
        assert distance(runtime, eager) < 1e-4
        assert greedy(runtime) == greedy(eager)
        assert traits.dtype == "float32"
        assert traits.build_phases == {"export", "build"}


def test_earlier_logits_and_caches_outlive_the_next_call(artifacts: Path) -> None:
    """OpenVINO overwrites its outputs at each call."""
    with running(OpenVino(), artifacts) as (runtime, _):
        cache = runtime.new_cache(1, 64)
        first = runtime.forward(PROMPT_1T, [24], cache).logits_BKV
        before, branch = first.clone(), cache.select([0])
        runtime.forward(PROMPT_1T.flip(1), [24])
        second = runtime.forward(PROMPT_1T[:, :1], [1], cache).logits_BKV
        assert torch.equal(first, before)
        assert torch.equal(runtime.forward(PROMPT_1T[:, :1], [1], branch).logits_BKV, second)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_weights_stay_packed_and_activations_are_not_quantized(bits: int, artifacts: Path) -> None:
    """OpenVINO quantizes activations by default, which moves these log-probabilities by 0.2 and more."""
    packed = running(OpenVino(weights=Blocks(bits)), artifacts)
    with packed as (runtime, traits), running(OnnxRuntime(weights=Blocks(bits)), artifacts) as (other, others):
        assert distance(runtime, other) < 1e-4
        assert traits.weight_bytes == others.weight_bytes
        assert isinstance(runtime, OpenVino)
        assert {words[1] for words in runtime.products if words[0] == "FullyConnected"} == {f"u{bits}"}


@pytest.mark.parametrize("weights", [DynamicInt8(), Blocks(4, int8_activations=True)])
def test_int8_activations_are_refused_in_one_line(weights: Weights) -> None:
    with pytest.raises(Unsupported, match=r"^OpenVINO .*activations.* use runtime/weights=w8 or w4$"):
        OpenVino(weights=weights).check(Hardware("cpu", 1))


def test_bfloat16_is_computed_where_the_processor_has_it(artifacts: Path) -> None:
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(Unsupported, match=r"^OpenVINO does not compute in bfloat16 .* use runtime.dtype=float32$"):
            OpenVino("bfloat16").check(Hardware("cpu", 1))
        return
    with running(OpenVino("bfloat16"), artifacts) as (half, traits), running(OpenVino(), artifacts) as (full, whole):
        assert isinstance(half, OpenVino)
        assert traits.dtype == "bfloat16"
        assert {precision for _, precision in half.products} == {"bf16"}
        assert (traits.weight_bytes or 0) < 0.6 * (whole.weight_bytes or 0)
        with running(Eager("bfloat16"), artifacts) as (rounded, _):
            expected = distance(rounded, full)
        assert 0.3 * expected < distance(half, full) < 3 * expected  # float32 would be nearer, and int8 farther
        cache = half.new_cache(1, 64)
        half.forward(PROMPT_1T[:, :20], [20], cache)
        step = half.forward(PROMPT_1T[:, 20:], [4], cache).logits_BKV.log_softmax(-1)
        torch.testing.assert_close(step[:, 0], log_probabilities(half, PROMPT_1T)[:, -1], atol=0.3, rtol=0)


def test_other_dtypes_and_gpus_are_refused_in_one_line() -> None:
    with pytest.raises(Unsupported, match=r"^OpenVINO has no device for NVIDIA GPUs: use hw=cpu, or runtime=onnxru"):
        OpenVino().check(Hardware("cuda", 1))
    with pytest.raises(Unsupported, match=r"^OpenVINO does not compute in float64 .* use runtime.dtype=float32$"):
        OpenVino("float64").check(Hardware("cpu", 1))


def test_a_damaged_graph_is_one_line(artifacts: Path, tmp_path: Path) -> None:
    hw, form = Hardware("cpu", 1, artifacts), Past()
    graph = exported_graph.load(MODEL, Full(), "float32", hw, lambda name: nullcontext(), form, "openvino")
    damaged = tmp_path / graph.path.name
    damaged.write_bytes(graph.path.read_bytes()[:5000])
    changed = exported_graph.ExportedGraph(**{**vars(graph), "folder": tmp_path})
    with pytest.raises(Unsupported, match=r"^OpenVINO cannot read .*model.onnx: .*export it again$") as raised:
        compile_graph(changed, {})
    assert "\n" not in str(raised.value)


@pytest.mark.alone
@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_compute_as_were_asked_for(threads: int, artifacts: Path) -> None:
    ids_BT = PROMPT_1T.repeat(8, 4)
    with running(OpenVino(), artifacts, threads) as (runtime, _):
        torch.set_num_threads(1)  # only OpenVINO's are counted
        runtime.forward(ids_BT, [96] * 8)
        rounds = [busy(lambda: [runtime.forward(ids_BT, [96] * 8) for _ in range(8)]) for _ in range(5)]
    # On a busy machine, threads of earlier tests wake up for up to 3 %, and a second thread may find no work left.
    # A thread that computes has an equal share in at least one round.
    assert max(sum(share > 0.2 / threads for share in shares) for shares in rounds) == threads


def busy(work: Callable[[], object]) -> list[float]:
    """Return each thread's share of this process's processor time during `work`."""

    def nanoseconds() -> dict[str, int]:
        return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()}

    tasks = Path("/proc/self/task")
    before = nanoseconds()
    work()
    used = [spent - before.get(task, 0) for task, spent in nanoseconds().items()]
    return [spent / sum(used) for spent in used]


def test_its_profiler_names_the_products(artifacts: Path) -> None:
    with running(OpenVino(), artifacts) as (runtime, _):

        def work() -> None:
            runtime.forward(PROMPT_1T, [24])

        operations = {found.name: found for found in runtime.profile(work) or ()}
    assert operations["FullyConnected"].kind == "products"
    assert operations["FullyConnected"].calls == 29  # 7 in each of 4 layers, and the head
    assert operations["FullyConnected"].seconds > 0

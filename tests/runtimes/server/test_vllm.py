"""vLLM's server: the words that start it, what is said where it is missing, and the real one where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.compose import compose_option
from runtime_matrix.experiments.config.schema import RuntimeConfig, ScoringConfig
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.evaluation.faces import face_of
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.execution.worker.loading import make_runtime
from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.server.vllm import Vllm
from runtime_matrix.runtimes.requests import Scored, ScoreRequest
from tests.conftest import ROOT
from tests.runtimes.server.test_child import ends

CPU = Hardware("cpu", 2)
PYTHON = Path(os.environ.get("RUNTIME_MATRIX_VLLM_PYTHON", ROOT / ".vllm" / "bin" / "python"))


def words(hw: Hardware, folder: Path, **options: Any) -> tuple[Sequence[str], Mapping[str, str]]:
    return Vllm(python="python3", **options).command(folder, "served", 8123, hw)


def test_the_words_that_start_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    options = {
        "max_num_seqs": 4,
        "kv_cache_dtype": "fp8",
        "gpu_memory_utilization": 0.5,
        "enforce_eager": True,
        "enable_prefix_caching": False,
    }
    command, variables = words(CPU, tmp_path, dtype="bfloat16", **options)
    assert " ".join(command) == (
        f"python3 -m vllm.entrypoints.openai.api_server --model {tmp_path} --served-model-name served "
        "--host 127.0.0.1 --port 8123 --dtype bfloat16 --gpu-memory-utilization 0.5 --max-num-seqs 4 "
        "--no-enable-prefix-caching --kv-cache-dtype fp8 --enforce-eager"
    )
    assert variables["OMP_NUM_THREADS"] == "2"
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert variables["HF_HUB_OFFLINE"] == variables["VLLM_NO_USAGE_STATS"] == "1"


def test_defaults_are_vllm_s(tmp_path: Path) -> None:
    command, variables = words(Hardware("cuda", 2), tmp_path)
    assert [word for word in command if word.startswith("--")] == [
        *("--model", "--served-model-name", "--host", "--port", "--dtype", "--skip-tokenizer-init")
    ]
    assert not [name for name in variables if name.startswith("VLLM_CPU")]


def test_a_missing_vllm_is_named_in_one_line() -> None:
    """Its module is sought by an interpreter of its own, which may be missing too."""
    with pytest.raises(Unsupported) as raised:
        Vllm(python="/nonexistent/python").check(CPU)
    assert str(raised.value) == "runtime.engine.python=/nonexistent/python does not start: No such file or directory"
    without = subprocess.run([sys.executable, "-c", "import vllm"], capture_output=True, check=False)
    if without.returncode == 0:
        pytest.skip("vllm is installed beside this project")
    with pytest.raises(Unsupported) as raised:
        Vllm().check(CPU)
    assert str(raised.value) == (
        f"{sys.executable} has no vllm: run `make vllm`, and set runtime.engine.python=.vllm/bin/python"
    )


def test_the_preset_s_options_are_the_engine_s() -> None:
    config: RuntimeConfig = build(RuntimeConfig, compose_option("runtime", "vllm"), "runtime")
    assert isinstance(make_runtime(config), Vllm)


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON.exists(), reason=f"no vLLM at {PYTHON}: run `make vllm`, or set RUNTIME_MATRIX_VLLM_PYTHON"
)
def test_the_real_server_scores_and_decodes_as_eager_does(bundled: tuple[ModelSource, Any], artifacts: Path) -> None:
    source, tokenizer = bundled
    hw = Hardware("cpu", 1, artifacts)
    ids = tuple(tokenizer.encode("Once upon a time there was a small town by a river. It was").ids)
    runtime = Vllm(python=str(PYTHON), enforce_eager=True, max_model_len=512)
    with runtime, Eager() as eager:
        served = face_of(runtime, runtime.load(source, hw, lambda name: nullcontext()))
        can = runtime.capabilities
        assert (can.takes_ids, can.returns_ids, can.prompt_logprobs, can.streams, can.seeds) == (True,) * 5
        assert can.end_of_text == "ignored"
        assert runtime.metrics()
        own = face_of(eager, eager.load(source, hw, lambda name: nullcontext()))
        results = []
        for face in (served, own):
            ((_, result),) = [
                pair for batch in face.score([ScoreRequest(ids, 1)], ScoringConfig(), Tally()) for pair in batch
            ]
            assert isinstance(result, Scored)
            results.append((result, face.decode([ids[:9], ids[:12]], 24).tokens))
        (ours, our_tokens), (theirs, their_tokens) = results
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
        assert ours.top1_margins == pytest.approx(theirs.top1_margins, abs=1e-3)
        assert our_tokens == their_tokens
        assert runtime._process is not None
    assert ends(runtime._process.pid)


def test_it_reserves_what_is_asked_for_and_at_most_the_models_length(tiny_model: Path, artifacts: Path) -> None:
    def words(max_tokens: int | None, own: int | None = None) -> list[str]:
        runtime = Vllm(python="python3", max_model_len=own)
        hw = Hardware("cpu", 1, artifacts)
        folder = runtime.prepare(ModelSource("tiny", tiny_model, max_tokens=max_tokens), hw, lambda name: nullcontext())
        given = list(runtime.command(folder, "served", 8123, hw)[0])
        return given[given.index("--max-model-len") + 1 :][:1] if "--max-model-len" in given else []

    assert [words(limit) for limit in (None, 100, 255, 256)] == [[], ["102"], ["256"], ["256"]]
    assert words(100, own=200) == ["200"]

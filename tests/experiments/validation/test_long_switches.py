"""Each option for long sequences gives the same tokens or scores on and off, a factor, and a peak of memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.validation.tasks.long_sequences import LONG_SWITCHES, TASK
from tests.in_process import call

EXPERIMENT = "experiment=long_sequences"
SMALL = {"pairs": 2, "prompt_tokens": 768, "short_prompt_tokens": 32, "chunk": 256, "new_tokens": 3, "short": 3}
SMALL_WORDS = [f"benchmark.long_sequences.{key}={value}" for key, value in SMALL.items()] + [
    "benchmark.long_sequences.short_tokens=[16,40]",
    "benchmark.long_sequences.long=3",
    "benchmark.long_sequences.long_tokens=[100,300]",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, str]:
    folder = tmp_path_factory.mktemp("long")
    words = (EXPERIMENT, *SMALL_WORDS, "hw.threads=1", "monitoring=[]", "progress=false", f"results_dir={folder}")
    done = call(main, list(words))
    assert done.returncode == 0, done.stderr
    (record,) = folder.glob("*/record.json")
    (entry,) = json.loads(record.read_text())["benchmarks"]
    (table,) = folder.glob("*/long_sequences.md")
    return Entry(**{key: entry[key] for key in ("benchmark", "status", "figures", "samples")}), table.read_text()


def test_every_option_is_measured_by_time_and_memory(measured: tuple[Entry, str]) -> None:
    entry, table = measured
    assert list(entry.figures) == list(LONG_SWITCHES)
    for name in LONG_SWITCHES:
        factors: Any = entry.figures[name]
        assert {"cpu", "wall", "memory"} <= set(factors)
        assert len(entry.samples[f"{name}: on_memory_bytes"]) == 2
        assert table.count(f"| {name} |") == 2
    keys = TASK.further_keys(entry)
    metrics = [TASK.further(key) for key in keys]
    values = {key: metric.figures(entry)[key] for key, metric in zip(keys, metrics, strict=True) if metric}
    assert len(values) == 9 * len(LONG_SWITCHES)
    assert None not in values.values()


def test_a_recomputed_text_takes_longer_and_matrices_of_attention_take_memory(measured: tuple[Entry, str]) -> None:
    samples = measured[0].samples
    recomputed = "no key-value cache, long prompt"
    assert min(samples[f"{recomputed}: on_cpu_s"]) > min(samples[f"{recomputed}: off_cpu_s"])
    by_sdpa = "attention by sdpa, long prompt"
    assert max(samples[f"{by_sdpa}: on_memory_bytes"]) < min(samples[f"{by_sdpa}: off_memory_bytes"])


def test_a_model_with_a_short_context_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"8192 tokens exceed the model's context of 1024: add model=random"):
        plan(compose(["benchmark=[long_sequences]"]), "")

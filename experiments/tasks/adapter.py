"""A LoRA adapter: its memory, the time to attach it and to switch to it, and what merging it changes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import ScoreRequest, Tokenizer
from runtime_matrix.experiments.records.metric import Metric, figure, hidden, number
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, ReferenceBench
from runtime_matrix.experiments.tasks.perplexity import read_text, windows
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA, Task
from runtime_matrix.runtimes.base import Traits

_FILE = "adapter-distributions.npy"
_TEXT = BUNDLED_DATA / "perplexity.txt"
_WINDOW, _TOKENS, _MOST_BYTES = 256, 2048, 256 << 20  # of the text, and of the file of distributions
_MIB, _MS = 1 / 2**20, 1000


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Options of `adapter`."""

    switches: int = least(2)


class AdapterTask(Task[AdapterConfig]):
    """Measures the cell's adapter; its distributions are compared with those of the adapter beside the weights."""

    name = "adapter"
    title = "adapter"
    data = "`adapter=DIR`, in PEFT's layout"
    measures = "memory, time to attach and to switch, KL divergence of merged from beside in the same dtype"
    position = 95
    temporary_files = (_FILE,)
    Config = AdapterConfig
    metrics = (
        Metric(
            key="adapter_bytes",
            title="adapter",
            unit="MiB",
            group="memory",
            rank=4,
            better="low",
            display=number("{:,.2f}", _MIB),
            read=figure("adapter_bytes"),
            noise_ratio=0.0,
            about="Memory that the adapter takes beside the weights; 0 if it is merged.",
        ),
        Metric(
            key="adapter_switch_s",
            title="switch",
            unit="ms",
            rank=4,
            better="low",
            display=number("{:.2f}", _MS),
            read=figure("switch_s"),
            is_of_machine=True,
            about="Median time of a switch between two adapters that are both in memory; n/a if merged.",
        ),
        Metric(
            key="adapter_attach_s",
            title="attach",
            unit="ms",
            rank=5,
            better="low",
            display=number("{:.0f}", _MS),
            read=figure("attach_s"),
            is_of_machine=True,
            about="Time to read an adapter and to attach it to the loaded base; n/a if merged.",
        ),
        Metric(
            key="adapter_kl_mean",
            title="KL of merging",
            unit="nats",
            group="agreement",
            rank=4,
            better="low",
            display=number("{:.1e}"),
            read=figure("kl_mean"),
            error="kl_standard_error",
            about="KL divergence from the same adapter beside the weights, in the same dtype, mean per token.",
        ),
        hidden("adapter_same_top_ratio", figure("same_top_ratio")),
    )

    @override
    def write_reference(self, bench: ReferenceBench, config: AdapterConfig) -> None:
        self._write(bench)

    @override
    def write_reference_in_own_dtype(self, bench: ReferenceBench) -> None:
        self._write(bench)  # replaces the file of the reference's own dtype

    @override
    def check_model(self, config: AdapterConfig, facts: ModelFacts) -> None:
        read_text(_TEXT, 1000)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: AdapterConfig, point: str) -> None:
        from runtime_matrix.experiments.evaluation import distributions

        if bench.adapter is None:
            bench.skip("the model has no adapter: add adapter=DIR")
        assert bench.adapter is not None
        runtime, file = bench.require_steps(), bench.folder / _FILE
        held = runtime.held_adapter()
        entry.parameters = {"rank": bench.adapter.rank, "parameters": bench.adapter.parameters}
        entry.figures = {"adapter_bytes": held.memory_bytes if held is not None else 0}
        if held is not None:
            attach_s, switches = held.switch_seconds(config.switches)
            entry.samples = {"switch_s": switches}
            entry.figures |= {"attach_s": attach_s, "switch_s": statistics.median(switches)}
        if file.exists() and bench.traits.vocabulary:
            requests = _requests(bench.require_text(), bench.traits)
            found = distributions.compare(runtime, bench.traits, requests, file, bench.traits.batch_tokens)
            entry.figures |= vars(found)

    def _write(self, bench: ReferenceBench) -> None:
        from runtime_matrix.experiments.evaluation import distributions

        if bench.text is not None and bench.runtime.held_adapter() is not None:
            requests = _requests(bench.text, bench.traits)
            file = bench.folder / _FILE
            distributions.write_reference(bench.runtime, bench.traits, requests, file, bench.traits.batch_tokens)


def _requests(text: Tokenizer, traits: Traits) -> Sequence[ScoreRequest]:
    """Return windows of the bundled text, at least one."""
    tokens = min(_TOKENS, _MOST_BYTES // (4 * traits.vocabulary))
    window = min(_WINDOW, traits.max_length or _WINDOW)
    cut = windows(text.encode(read_text(_TEXT, max_bytes=16 * _TOKENS)), text.bos_id, window)
    return [ScoreRequest(one.ids, one.first_scored) for one in cut[: max(1, tokens // (window - 1))]]


TASK = AdapterTask()

"""ONNX Runtime's provider for CUDA, whose memory is the host's and whose kernels are the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


class Binding:
    """ONNX Runtime's own binding, for the host's memory that the card's is."""

    def __init__(self, binding: Any):
        self.binding = binding

    def bind_input(self, name: str, device: str, *others: Any) -> None:
        assert device == "cuda"
        self.binding.bind_input(name, "cpu", *others)

    def bind_output(self, name: str, device: str, *others: Any) -> None:
        assert device == "cuda"
        self.binding.bind_output(name, "cpu", *others)


def cuda_session(real: Any) -> Any:
    """Return a stand-in for `InferenceSession` that computes on the host under the name of the provider for CUDA."""

    def make(graph: Any, options: Any = None, providers: Sequence[Any] = ()) -> Any:
        name, given = providers[0] if isinstance(providers[0], tuple) else (providers[0], {})
        if name != "CUDAExecutionProvider":
            return real(graph, options, providers=providers)
        assert int(given["user_compute_stream"])
        session = real(graph, options, providers=["CPUExecutionProvider"])

        def run(binding: Binding, run_options: Any) -> None:
            from tests.runtimes.stand_in_card import Stream

            assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
            Stream.order.append("run")
            session.run_with_iobinding(binding.binding, run_options)

        return SimpleNamespace(
            get_providers=lambda: [name],
            get_inputs=session.get_inputs,
            get_outputs=session.get_outputs,
            io_binding=lambda: Binding(session.io_binding()),
            run_with_iobinding=run,
        )

    return make

"""Our engines on the stand-in for a GPU, by name, with what each needs of others' packages replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs, Runtime, Traits
from runtime_matrix.runtimes.engines.chosen import Chosen
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime
from runtime_matrix.runtimes.placements.balanced import Balanced
from tests.runtimes.cuda_session import cuda_session
from tests.runtimes.fake_tensorrt import fake_plan
from tests.runtimes.stand_in_card import card

ENGINES: dict[str, Callable[[], Runtime]] = {
    "eager": Eager,
    "eager_attention": lambda: Eager(attention="eager"),
    "balanced": lambda: Eager(placement=Balanced()),
    "compile": lambda: Compiled(mode="default", batch_buckets=[1, 2, 8], token_buckets=[8]),
    "onnxruntime": OnnxRuntime,
    "tensorrt": fake_plan,
}
CARDS = {"balanced": 2}  # the others have one


@contextmanager
def on_card(
    name: str, model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Runtime, Traits, Callable[[], list[str]]]]:
    """Yield an engine that is loaded on the card, its traits, and what tells for what the host has waited."""
    import onnxruntime

    with monkeypatch.context() as patch, card(patch, CARDS.get(name, 1)) as waits:
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        patch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        patch.setattr(onnxruntime, "InferenceSession", cuda_session(onnxruntime.InferenceSession))
        patch.setattr(torch, "compile", lambda graph, **options: graph)  # which has no code for the stand-in
        runtime = ENGINES[name]()
        hardware = Hardware("cuda", 1, artifacts)
        yield runtime, runtime.load(ModelSource(model.name, model), hardware, lambda phase: nullcontext()), waits
        runtime.close()


class ToHost(Chosen):
    """A runtime whose outputs are brought to the host, where a test compares them."""

    def __init__(self, runtime: Runtime):
        self._engine = runtime

    @override
    def load(self, *given: Any, **more: Any) -> Traits:
        return self._loaded.load(*given, **more)

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: Any = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        found: dict[str, Any] = vars(
            self._loaded.forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)
        )
        moved: dict[str, Any] = {name: None if value is None else value.cpu() for name, value in found.items()}
        return Outputs(**moved)

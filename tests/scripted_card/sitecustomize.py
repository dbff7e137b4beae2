"""Makes each Python process a machine with one GPU: the stand-in of `tests.runtimes.stand_in_card`, and what knows it.

A test puts this folder first on PYTHONPATH and PATH. Python imports it when it starts; torch is changed when somebody
imports it. TensorRT is `fake_tensorrt`; ONNX Runtime computes on the host; a captured graph runs what was captured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from typing_extensions import override

_entered: list[Any] = []  # contexts that last as long as the process


def _torch(module: ModuleType) -> None:
    import pytest

    from tests.runtimes.stand_in_card import card

    patch = pytest.MonkeyPatch()
    _entered.append(card(patch))
    _entered[-1].__enter__()
    patch.setattr(module, "compile", lambda graph, **options: graph)  # which has no code for the stand-in


def _onnxruntime(module: ModuleType) -> None:
    from tests.runtimes.cuda_session import cuda_session

    module.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]  # type: ignore[attr-defined]
    module.InferenceSession = cuda_session(module.InferenceSession)  # type: ignore[attr-defined]


def _cuda_graph(module: ModuleType) -> None:
    from tests.runtimes.captured import capture

    module.CapturedStep._capture = capture


AFTER: dict[str, Callable[[ModuleType], None]] = {
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "runtime_matrix.runtimes.engines.cuda_graph": _cuda_graph,
}


class _Changed(Loader):
    def __init__(self, loader: Any, change: Callable[[ModuleType], None]):
        self._loader, self._change = loader, change

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    @override
    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class _Finder(MetaPathFinder):
    @override
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in AFTER else None
        if spec is not None:
            spec.loader = _Changed(spec.loader, AFTER[name])
        return spec


sys.meta_path.insert(0, _Finder())

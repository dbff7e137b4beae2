"""Builds a TensorRT engine from a graph with fixed slots, and turns TensorRT's errors into one-line exceptions.

Shapes: B rows, T new tokens per row, K requested positions, S visible slots.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import Unsupported

_PADDING = 512  # slots
_OUT_OF_MEMORY = (
    *("out of memory", "outofmemory", "memoryallocation", "insufficient memory"),
    *("failed to allocate", "could not allocate", "unable to allocate", "requested size"),
)


@dataclass(frozen=True)
class Bounds:
    """The largest sizes and the GPU for which an engine is built."""

    batch: int
    tokens: int  # per row
    compute_capability: str | None = None  # target GPU, such as 8.6; None: the builder's default

    @property
    def slots(self) -> int:
        """Slots per row of a cache, with room for padding and speculative tokens after the last token."""
        return self.tokens + min(self.tokens, _PADDING)


def build(trt: Any, graph: Path, bounds: Bounds) -> bytes:
    """Return the serialized engine. TensorRT-RTX needs no GPU. Unsupported if TensorRT rejects the graph.

    MemoryError if the build runs out of memory.
    """
    logger = new_logger(trt)
    builder = trt.Builder(logger)
    # Strongly typed: dtypes come from the graph. TensorRT 11 and RTX have no other mode, and the flag may be absent.
    if not hasattr(trt.INetworkDefinition, "add_kv_cache_update"):
        raise Unsupported(f"{trt.__name__} {trt.__version__} cannot write a cache in place: 10.15 or later can")
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise Unsupported(f"TensorRT cannot read the graph: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; without it float32 is computed in float32
    if bounds.compute_capability is not None:
        name = f"SM{bounds.compute_capability.replace('.', '')}"
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), 0):
            raise Unsupported(f"TensorRT-RTX does not build for compute capability {bounds.compute_capability}")
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    # Minimum, typical and maximum sizes: B, T, S, K.
    usual, tokens = min(64, bounds.tokens), bounds.tokens
    prompt = ((1, 1, 1, 1), (1, usual, usual, 1), (bounds.batch, tokens, bounds.slots, tokens))
    step = ((1, 1, 1, 1), (1, 1, max(1, tokens // 2), 1), (bounds.batch, 1, bounds.slots, 1))
    for sizes in (prompt, step):
        profile = builder.create_optimization_profile()
        for value in inputs:
            profile.set_shape(value.name, *(_shape(value, *size) for size in sizes))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise refusal("TensorRT cannot build the engine", logger)
    return bytes(engine)


def refusal(what: str, logger: Any, otherwise: type[Exception] = Unsupported) -> Exception:
    """Return an exception with TensorRT's last error: MemoryError if that concerns memory, else `otherwise`."""
    kind = MemoryError if any(sign in logger.last.lower() for sign in _OUT_OF_MEMORY) else otherwise
    return kind(f"{what}: {logger.last}")


def _shape(value: Any, rows: int, tokens: int, slots: int, positions: int) -> tuple[int, ...]:
    shapes = {"ids": (rows, tokens), "positions": (rows, tokens), "at": (rows, positions), "slots": (slots,)}
    return shapes.get(value.name, (rows, *value.shape[1:]))


def new_logger(trt: Any) -> Any:
    """Return a logger with the last error in `last`; it writes warnings and errors to stderr, the cell's log."""

    class Last(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "it gave no reason"

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                print(f"TensorRT: {text}", file=sys.stderr)
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = str(text).splitlines()[0]

    return Last()

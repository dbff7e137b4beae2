"""The cases of the contract test: every preset of a runtime, and every kind of weights and placement over an engine.

They are found and not listed: a preset that is added to `conf/runtime` keeps the contract, or says why it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.compose import compose_option, options
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.config.targets import load_class
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.worker.loading import held_weights
from runtime_matrix.experiments.records.schema import HeldWeights
from runtime_matrix.runtimes.engines.compiled import Compiled

CHECKPOINTS = Path(__file__).parent / "checkpoints"  # quantized, as AutoGPTQ and AutoAWQ wrote them
TOLERANCE = 1e-4  # of a logit, in float32
# By weights. Activations are quantized as they come: the scale may depend on what else is run, and a sum in another
# order may round to the next step. Another token earlier in the text moves these logits by 0.2.
_ROUGH = {"w8a8": 0.02, "w4a8": 0.02, "torchao_int8_dynamic": 0.02}
# By the type of keys and values under flash attention, which computes in float16.
_BY_KEYS_AND_VALUES = {"float16": 1e-3, "q8_0": 5e-3, "q4_0": 0.1}
_BY_PLACEMENT = {"tensor_parallel": 1e-5}  # the same products in other sums
_WITHOUT_VNNI = {"w8a8": 0.1}  # sums of two products saturate in 16 bits there, so that more depends on the scale
_EAGER = "runtimes.engines.eager:Eager"
_ENGINES = (
    "eager",
    "onnxruntime",
    "llamacpp",
)  # over which each kind of weights is tried: the first that takes its form
_WORDS = {"custom": (f"runtime.engine.target={_EAGER}",)}  # without which a preset is not whole
_TO_DISK = ("runtime/placement=balanced", "runtime.placement.host_layers=1", "runtime.placement.to=disk")
_MORE = {
    "eager_attention": ("eager", ("runtime.engine.attention=eager",)),
    "balanced_disk": ("eager", _TO_DISK),
}
# Options of engines and placements, for the small model that is run: each bucket is a graph that takes time to compile.
_SMALL = {"batch_buckets": [2], "token_buckets": [8], "vocabulary": 128, "max_length": 256, "layers": 1}


def _has_vnni() -> bool:
    """Return whether the processor sums products of 8-bit numbers in 32 bits; True where the system does not tell."""
    facts = Path("/proc/cpuinfo")
    return not facts.is_file() or "vnni" in facts.read_text()


@dataclass(frozen=True)
class Case:
    """A runtime that is to keep the contract. `checkpoint` is the model that it reads; None: a small one of floats."""

    config: RuntimeConfig
    checkpoint: Path | None = None

    @property
    def held(self) -> HeldWeights:
        return held_weights(self.config, None if self.checkpoint is None else self.checkpoint.name)

    @property
    def tolerance(self) -> float:
        name, engine = self.config.weights["name"], self.config.engine
        if engine.get("flash_attention"):
            return _BY_KEYS_AND_VALUES[engine["kv_dtype"]]
        usual = _BY_PLACEMENT.get(self.config.placement["name"], TOLERANCE)
        return (_ROUGH if _has_vnni() else _ROUGH | _WITHOUT_VNNI).get(name, usual)

    @property
    def needs_calibration(self) -> bool:
        return bool(getattr(load_class(self.config.weights["target"]), "needs_calibration", False))

    @property
    def is_slow(self) -> bool:
        """Return whether the case compiles for minutes."""
        return issubclass(load_class(self.config.engine["target"]), Compiled)

    def under_eager(self) -> Case | None:
        """Return the same weights under eager, in its own placement; None where eager cannot take them or is it."""
        engine = _config("eager").engine
        takes = load_class(engine["target"]).weight_forms
        if self.held.form not in takes or self.config.engine["target"] == engine["target"]:
            return None
        return replace(self, config=replace(self.config, engine=engine))


def checkpoints() -> dict[str, Case]:
    folders = sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir())
    return {folder.name: Case(_config("eager"), folder) for folder in folders}


def discovered() -> dict[str, Case]:
    """Return one case for each combination of engine, weights and placement, by name."""
    found: dict[str, Case] = {}
    for name, config in _configs():
        parts = (config.engine, config.weights, config.placement, config.dtype)
        if parts not in [(c.engine, c.weights, c.placement, c.dtype) for c in (case.config for case in found.values())]:
            found[name] = Case(config)
    return found


def _configs() -> Iterator[tuple[str, RuntimeConfig]]:
    for name in options("runtime"):
        yield name, _config(name, *_WORDS.get(name, ()))
    for name, (preset, words) in _MORE.items():
        yield name, _config(preset, *words)
    for name in options("runtime/weights"):
        yield f"weights {name}", _over_an_engine(name)
    for name in options("runtime/placement"):
        yield f"placement {name}", _config("eager", f"runtime/placement={name}")


def _over_an_engine(weights: str) -> RuntimeConfig:
    for engine in _ENGINES:
        config = _config(engine, f"runtime/weights={weights}")
        if held_weights(config).form in load_class(config.engine["target"]).weight_forms:
            return config
    raise AssertionError(f"none of {', '.join(_ENGINES)} takes the form of runtime/weights={weights}")


def _config(preset: str, *words: str) -> RuntimeConfig:
    composed = compose_option("runtime", preset, words)
    small = {key: _smaller(composed[key]) for key in ("engine", "placement")}
    config: RuntimeConfig = build(RuntimeConfig, composed | small, "runtime")
    return config


def _smaller(part: JsonObject) -> JsonObject:
    small: dict[str, Any] = {key: value for key, value in _SMALL.items() if key in part}
    return part | small

"""Loads a GGUF file as a dense module: `transformers` dequantizes the weights. Needs gguf and accelerate."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.gguf_header import GgufHeader, read_header
from runtime_matrix.runtimes.weights.packages import require
from runtime_matrix.runtimes.windows import SLIDING

_FLOATS = ("F32", "F16", "BF16")
# What `transformers` raises for an architecture, a setting or a type of weights that it does not read.
_UNREAD = (ValueError, KeyError, NotImplementedError, TypeError)
_READS_SCALING = ("gpt-oss",)  # architectures whose scaled rotary embeddings `transformers` reads


def note(file: Path, dtype: str) -> str | None:
    """Return the note that a dense module has dequantized weights; None if the file stores floating-point numbers."""
    kind = read_header(file).main_type
    return None if kind in _FLOATS else f"the weights were dequantized from GGUF {kind} to {dtype}"


def config_of(file: Path) -> Any:
    """Return the `transformers` configuration. Raises Unsupported if `transformers` cannot read the architecture."""
    from transformers import AutoConfig

    header = check(file)
    with _alone(file) as arguments, _unread(file):
        config = AutoConfig.from_pretrained(**arguments)
    _check_window(file, header, config.get_text_config())
    return config


def load_module(file: Path, dtype: Any, attention: str) -> Any:
    """Return a `transformers` causal language model with the file's weights in a torch `dtype`, on the CPU.

    Raises Unsupported if `transformers` would compute another model than the file describes, because it does not read
    all of it, and ValueError for weights that are missing or not finite.
    """
    import transformers

    header = check(file)
    options: dict[str, Any] = {"config": config_of(file), "dtype": dtype, "attn_implementation": attention}
    with suppress(AttributeError):  # older versions always dequantize
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with _alone(file) as arguments, _unread(file):
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            **arguments, **options, output_loading_info=True
        )
    module, found = loaded
    _check_weights(file, header, module, sorted(found["missing_keys"]))
    return module


def check(file: Path) -> GgufHeader:
    """Return the header. Raises Unsupported without a package, or for what `transformers` would silently leave out."""
    for module in ("gguf", "accelerate"):
        require(module, "llamacpp")
    header = read_header(file)
    kind = header.of_architecture("rope.scaling.type")
    if kind not in (None, "", "none") and header.architecture not in _READS_SCALING:
        raise _unsupported(file, f"it does not read rotary embeddings with the scaling {kind}")
    factors = [tensor.name for tensor in header.tensors if tensor.name.startswith("rope_")]
    if factors:
        raise _unsupported(file, f"it does not read {factors[0]}")
    return header


def _check_window(file: Path, header: GgufHeader, config: Any) -> None:
    """Raise Unsupported if `transformers` did not read the file's window; remove the default of a file without one."""
    stated = header.of_architecture("attention.sliding_window") or None  # llama.cpp takes 0 for none
    size = getattr(config, "sliding_window", None)
    if stated is None and getattr(config, "layer_types", None) is None and size is not None:
        config.sliding_window = None
    elif stated != size and (stated is not None or SLIDING in (getattr(config, "layer_types", None) or ())):
        raise _unsupported(file, f"it does not read its sliding window of {stated or 'an unstated number of'} tokens")


def _check_weights(file: Path, header: GgufHeader, module: Any, missing: list[str]) -> None:
    read = sum(weight.numel() for weight in module.parameters())
    if read < header.weights:
        raise _unsupported(file, f"it reads {read:,} of {header.weights:,} weights")
    if missing or read > header.weights:
        raise ValueError(f"{file.name} lacks {', '.join(missing[:1]) or 'weights'}: convert or download it again")
    for name, weight in module.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(f"{file.name}: {name} is not finite in {weight.dtype}: convert or download it again")


@contextmanager
def _alone(file: Path) -> Iterator[dict[str, str]]:
    """Yield the arguments that name the file, beside no other.

    `transformers` also reads configurations and adapters beside the file, and prefers a file of the same name in the
    working directory.
    """
    with tempfile.TemporaryDirectory() as empty:
        yield {"pretrained_model_name_or_path": empty, "gguf_file": str(file.resolve())}


@contextmanager
def _unread(file: Path) -> Iterator[None]:
    """Raise Unsupported for what `transformers` does not read."""
    try:
        yield
    except _UNREAD as error:
        raise _unsupported(file, (str(error).strip() or type(error).__name__).splitlines()[0][:200]) from error


def _unsupported(file: Path, reason: str) -> Unsupported:
    version = importlib.metadata.version("transformers")
    return Unsupported(
        f"transformers {version} cannot dequantize {file.name}: {reason}; use a runtime that reads GGUF, and "
        "model.reference=DIR with the original model for its reference"
    )

"""LoRA adapters in PEFT's layout: what `adapter_config.json` and `adapter_model.safetensors` say, read without torch.

Files are hostile until they are read: only the options and tensors below are accepted, and nothing of them is executed.
Layout: https://huggingface.co/docs/peft/developer_guides/checkpoint. Shapes: A (rank, in), B (out, rank).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime_matrix.runtimes.base import ReadOnlyJson

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TENSOR = re.compile(re.escape(_PREFIX) + r"(?P<module>[A-Za-z_][\w.]*)\.lora_(?P<side>[AB])\.weight")
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")  # PEFT takes the keys of patterns for regular expressions
_MOST_CONFIG_BYTES, _MOST_HEADER_BYTES = 1 << 20, 64 << 20
_DTYPES: dict[str, tuple[str, int]] = {  # unsigned integers of the same size, and the bits of the exponent
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
# Options that change what an adapter computes and that PEFT has beside LoRA's own: with these values they do nothing.
_WITHOUT: Mapping[str, tuple[object, ...]] = {
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
}


@dataclass(frozen=True)
class AdaptedModule:
    """A linear layer with an adapter: the sizes of the layer, and the rank of its two factors."""

    inputs: int
    outputs: int
    rank: int


@dataclass(frozen=True)
class AdapterFiles:
    """What the files of an adapter say."""

    base_name: str | None  # the base as it was called where the adapter was trained: a path or an id
    alpha: float
    alphas: Mapping[str, float]  # of modules, by the end of their names, where it is another
    is_rank_stabilized: bool  # the scale is alpha / sqrt(rank), not alpha / rank
    is_transposed: bool  # the layers keep their weights as (in, out)
    modules: Mapping[str, AdaptedModule]  # by the module's name in the base

    @property
    def rank(self) -> int:
        """Return the largest rank."""
        return max(module.rank for module in self.modules.values())

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(module.rank * (module.inputs + module.outputs) for module in self.modules.values())


def tensor_name(module: str, side: str) -> str:
    """Return the name under which the file has a factor of a module; `side` is A or B."""
    return f"{_PREFIX}{module}.lora_{side}.weight"


def read_adapter(folder: Path) -> AdapterFiles:
    """Return what the files say. Raises ValueError, in one line, if they are missing, damaged, empty or unsupported."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder that holds {CONFIG}")
    for name in (CONFIG, TENSORS):
        _check_file(folder, name)
    options = _options(folder / CONFIG)
    modules = _modules(folder / TENSORS)
    _check_rank(folder / CONFIG, options, modules)
    return AdapterFiles(
        base_name=_base_name(folder / CONFIG, options),
        alpha=_number(folder / CONFIG, "lora_alpha", options.get("lora_alpha")),
        alphas=_alphas(folder / CONFIG, options.get("alpha_pattern")),
        is_rank_stabilized=_flag(folder / CONFIG, options, "use_rslora"),
        is_transposed=_flag(folder / CONFIG, options, "fan_in_fan_out"),
        modules=modules,
    )


def _check_file(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_file():
        return
    if path.exists():
        raise ValueError(f"{path} is not a file: save the adapter again")
    if name == TENSORS and (folder / "adapter_model.bin").exists():
        raise ValueError(f"{folder} has its weights as adapter_model.bin, which may run code: save it as safetensors")
    hint = (
        "it holds a whole model: use model=local model.path"
        if (folder / "config.json").exists()
        else "give the folder that PEFT wrote"
    )
    raise ValueError(f"{folder} has no {name}, as PEFT's adapters have: {hint}")


def _options(path: Path) -> ReadOnlyJson:
    if path.stat().st_size > _MOST_CONFIG_BYTES:
        raise ValueError(f"{path} has more than {_MOST_CONFIG_BYTES >> 20} MiB: it is no adapter's configuration")
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {_line(error)}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold a JSON object; found {type(options).__name__}")
    kind = options.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{path}: peft_type must be LORA; found {_shown(kind)}")
    for key, values in _WITHOUT.items():
        value = options.get(key, values[0])
        if not any(value == other and type(value) is type(other) for other in values):
            raise ValueError(f"{path}: {key}={_shown(value)} is not supported; only plain LoRA is")
    return options


def _modules(path: Path) -> dict[str, AdaptedModule]:
    factors: dict[str, dict[str, tuple[int, int]]] = {}
    is_trained = False
    header, start = _header(path)
    for name, entry in header.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{path}: the tensor {_shown(name)} is no factor of a linear layer; only plain LoRA is read"
            )
        shape, values = _values(path, name, entry, start)
        if bool(((values & _DTYPES[entry["dtype"]][1]) == _DTYPES[entry["dtype"]][1]).any()):
            raise ValueError(f"{path}: the tensor {name} has values that are not finite: train the adapter again")
        is_trained |= match["side"] == "B" and bool((values << 1).any())  # without the sign: -0 is 0
        factors.setdefault(match["module"], {})[match["side"]] = shape
    if not factors:
        raise ValueError(f"{path} is empty: it has no tensor")
    modules = {name: _module(path, name, sides) for name, sides in factors.items()}
    if not is_trained:
        raise ValueError(f"{path} changes nothing: all its factors B are zero, as before training")
    return modules


def _module(path: Path, name: str, sides: Mapping[str, tuple[int, int]]) -> AdaptedModule:
    if len(sides) < 2:
        (missing,) = {"A", "B"} - set(sides)
        raise ValueError(f"{path}: {name} has no {tensor_name(name, missing)}")
    (rank, inputs), (outputs, other) = sides["A"], sides["B"]
    if rank != other or rank > min(inputs, outputs):
        raise ValueError(
            f"{path}: {name} has factors of {rank} × {inputs} and {outputs} × {other}, which are none of a low rank"
        )
    return AdaptedModule(inputs, outputs, rank)


def _header(path: Path) -> tuple[ReadOnlyJson, int]:
    """Return the tensors' entries and the position of the first byte of data."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise ValueError(f"{path} is damaged: its header is longer than the file; save the adapter again")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: its header is not JSON; save the adapter again") from error
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError(f"{path} is damaged: its header is no mapping of tensors; save the adapter again")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, 8 + length


def _values(path: Path, name: str, entry: ReadOnlyJson, start: int) -> tuple[tuple[int, int], Any]:
    """Return the shape of a tensor and its values as integers of the same size."""
    dtype: Any
    shape: Any
    span: Any
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{path}: the tensor {name} is of {_shown(dtype)}; known: {', '.join(_DTYPES)}")
    if not (_are_sizes(shape) and len(shape) == 2 and min(shape) > 0 and _are_sizes(span) and len(span) == 2):
        raise ValueError(f"{path}: the tensor {name} has the shape {_shown(shape)}: a matrix is needed")
    kind = np.dtype(_DTYPES[dtype][0])
    needed, end = math.prod(shape) * kind.itemsize, start + span[1]
    if span[1] - span[0] != needed or end > path.stat().st_size:
        raise ValueError(f"{path} is damaged: {name} needs {needed:,} bytes, which the file has not; save it again")
    values = np.fromfile(path, kind, count=math.prod(shape), offset=start + span[0])
    return (shape[0], shape[1]), values


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 1 << 40 for size in value)


def _check_rank(path: Path, options: ReadOnlyJson, modules: Mapping[str, AdaptedModule]) -> None:
    """Refuse a rank that no module has: the configuration belongs to another file of tensors."""
    rank, ranks = options.get("r"), options.get("rank_pattern") or {}
    if type(rank) is not int or rank < 1:
        raise ValueError(f"{path}: r must be a number from 1; found {_shown(rank)}")
    if not isinstance(ranks, dict):
        raise ValueError(f"{path}: rank_pattern must be a mapping; found {_shown(ranks)}")
    known = [rank, *ranks.values()]
    other = next((module.rank for module in modules.values() if module.rank not in known), None)
    if other is not None:
        raise ValueError(f"{path}: r is {rank}, but {TENSORS} has factors of rank {other}: they do not belong together")


def _base_name(path: Path, options: ReadOnlyJson) -> str | None:
    name = options.get("base_model_name_or_path")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{path}: base_model_name_or_path must be a text; found {_shown(name)}")
    return name or None


def _alphas(path: Path, pattern: object) -> dict[str, float]:
    if pattern is None:
        return {}
    if not isinstance(pattern, dict) or not all(_PLAIN_NAME.fullmatch(key) for key in pattern):
        raise ValueError(f"{path}: alpha_pattern must be a mapping from names of modules; found {_shown(pattern)}")
    return {key: _number(path, f"alpha_pattern.{key}", value) for key, value in pattern.items()}


def _number(path: Path, key: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError(f"{path}: {key} must be a number up to 1,000,000; found {_shown(value)}")
    return float(value)


def _flag(path: Path, options: ReadOnlyJson, key: str) -> bool:
    value = options.get(key, False)
    if value not in (True, False, None):
        raise ValueError(f"{path}: {key} must be true or false; found {_shown(value)}")
    return bool(value)


def _shown(value: object) -> str:
    return repr(value)[:60]


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

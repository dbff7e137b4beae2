"""Full-precision weights: a Hugging Face folder, a GGUF file, or seeded random weights from an architecture."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, ReadOnlyJson, Unsupported
from runtime_matrix.runtimes.footprint import ELEMENT_BYTES, ModelSizes, WeightFootprint
from runtime_matrix.runtimes.gguf_header import is_gguf, read_header
from runtime_matrix.runtimes.weights import adapter, gguf_module, sharding
from runtime_matrix.runtimes.windows import Windows

_DRAWN_FORM = 2  # version of the random weights in the artifact key; increase it when `_drawn` changes them
_ROWS_AT_ONCE = 4096  # matrix rows drawn at once, in float32
_KEPT_PARAMETERS = 100_000_000  # smaller models are not cached: drawing them takes about a second
HALF_DTYPES = ("float16", "bfloat16")
_HALF_METHODS = ("gptq", "awq")  # methods whose GPU kernels support only 16-bit dtypes


class Full:
    """The weights as stored, cast to the dtype of the runtime."""

    form: ClassVar[str] = "dense"
    keeps_values: ClassVar[bool] = True
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[Mapping[str, str | int | None]] = {"name": "full"}
    loads_parts: ClassVar[bool] = True

    def check(self, hw: Hardware) -> None:
        """Do nothing: only torch and transformers are required."""

    def gpu_dtypes(self, model: ModelSource) -> tuple[str, ...]:
        """Return the dtypes that the GPU kernels of the stored weights support, preferred first; empty: any dtype."""
        return HALF_DTYPES if model.stored_method in _HALF_METHODS else ()

    def load(self, request: LoadRequest) -> Any:
        """Return the module in inference mode, as `load_module` does."""
        return load_module(request)

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint:
        """Return what `load_module` takes."""
        return dense_footprint(sizes, dtype)


def _still_progress_bars() -> None:
    """Slow down the thread of logbar, which gptqmodel imports: it looks for progress bars ten times a second.

    An idle runtime would compute for 0.1 % of the time, which counts as work between timed rounds.
    """
    logbar = sys.modules.get("logbar.logbar")
    if hasattr(logbar, "_REFRESH_INTERVAL_SECONDS"):
        logbar._REFRESH_INTERVAL_SECONDS = 3600.0  # type: ignore[union-attr]


def load_module(request: LoadRequest) -> Any:
    """Return a `transformers` causal language model on the device, in inference mode; a GGUF file is dequantized.

    An adapter is merged into the weights: an engine that holds it beside them asks for `request.model.base`.

    Raises Unsupported if the model has layers that no engine keeps (see `windows`), or an unknown architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, dtype = request.model.base, getattr(torch, request.dtype)
    folder = model.folder or _kept(model, request.hw)
    if folder is not None and is_gguf(folder):
        module = gguf_module.load_module(folder, dtype, request.attention)
    elif folder is not None:
        module = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config_of(folder),
            dtype=dtype,
            attn_implementation=request.attention,
            **sharding.options(request.ranks),
        )
    else:
        module = _random(model, request.attention).to(dtype)
    _still_progress_bars()
    Windows.of(module)  # refuses layers that no engine keeps
    if request.model.adapter is not None:
        adapter.import_packages()
        module = adapter.merged(module, request.model.adapter, dtype)
    untyped: Any = module  # Any: transformers' annotations of `to` lack its arguments
    return untyped.to(request.hw.device).eval().requires_grad_(False)


def dense_footprint(sizes: ModelSizes, dtype: str) -> WeightFootprint:
    """Return what a module takes that `load_module` returns.

    Of the file's own dtype, its pages are the weights: they are read at the first forward. Of another, all pages of the
    file have been read when the last weight is cast.
    """
    held = sizes.dense_bytes(dtype)
    if sizes.stored_dtype == dtype:
        return WeightFootprint(held_bytes=held, load_bytes=0)
    read = sizes.dense_bytes(sizes.stored_dtype or "float32")  # a model that is drawn is drawn in float32
    return WeightFootprint(held_bytes=held, load_bytes=held + read)


def packed_footprint(sizes: ModelSizes, dtype: str, packed: int, packed_bytes: float) -> WeightFootprint:
    """Return what a module takes of which `packed` weights are packed into so many bytes after it was loaded.

    If the other weights have the file's dtype, they keep it mapped: the pages of packed weights stay.
    """
    dense = dense_footprint(sizes, dtype)
    left = dense.held_bytes if sizes.stored_dtype == dtype else dense.held_bytes - ELEMENT_BYTES[dtype] * packed
    return WeightFootprint(left + packed_bytes, max(dense.load_bytes, left + packed_bytes))


def outline(model: ModelSource, dtype: str) -> Any:
    """Return the module that `load_module` loads on the device `meta`: shapes without values, in a second."""
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(model.folder) if model.folder is not None else random_config(model.architecture or {})
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def config_of(folder: Path) -> Any:
    """Return the model's configuration, with the name of the weight file if that is non-standard, as AutoGPTQ's is.

    Raises Unsupported for a GGUF file that `transformers` cannot read.
    """
    from transformers import AutoConfig

    if is_gguf(folder):
        return gguf_module.config_of(folder)
    config = AutoConfig.from_pretrained(folder)
    indexes, files = (
        sorted(path.name for path in folder.glob(f"*.safetensors{suffix}")) for suffix in (".index.json", "")
    )
    names = indexes or files
    if names and not names[0].startswith("model") and not list(folder.glob("pytorch_model*.bin")):
        config.transformers_weights = names[0]
    return config


def modules_of(model: ModelSource) -> tuple[str, ...]:
    """Return the names of the modules that loading the model imports. They are imported in the phase `import`."""
    model_type = (model.architecture or {}).get("model_type")
    if model.folder is not None and is_gguf(model.folder):
        with suppress(ImportError):
            model_type = read_header(model.folder).architecture
    elif model.folder is not None:
        with suppress(OSError, ValueError):
            model_type = json.loads((model.folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    name = str(model_type).replace("-", "_")
    return ("transformers", f"transformers.models.{name}.modeling_{name}")


def weight_bytes(module: Any) -> int:
    """Return the size in bytes of all parameters and buffers; tied tensors once, packed ones at their packed size."""
    # Offloaded tensors are on the device `meta` and take no memory.
    tensors = [part for tensor in (*module.parameters(), *module.buffers()) for part in _parts(tensor)]
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors if t.device.type != "meta"}.values())


def _parts(tensor: Any) -> list[Any]:
    """Return the plain tensors of a packed or distributed tensor; of a plain tensor, the tensor itself."""
    parts = [tensor]
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        inner = [getattr(tensor, name) for name in names]  # a distributed tensor has its mesh there too
        parts = [plain for part in inner if hasattr(part, "data_ptr") for plain in _parts(part)]
    state = getattr(tensor, "quant_state", None)  # bitsandbytes keeps its scales beside the weight
    scales = [getattr(state, name, None) for name in ("absmax", "code")] if state is not None else []
    return parts + [scale for scale in scales if scale is not None]


def notes(model: ModelSource, dtype: str) -> tuple[str, ...]:
    """Return what the record should say about how the weights were read."""
    if model.folder is None or not is_gguf(model.folder):
        return ()
    return tuple(filter(None, [gguf_module.note(model.folder, dtype)]))


def disk_bytes(folder: Path | None) -> int | None:
    """Return the size in bytes of the weight files in `folder`, or of a GGUF file; None if there are none."""
    if folder is None:
        return None
    if is_gguf(folder):
        return folder.stat().st_size
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return sum(file.stat().st_size for file in files) or None


def _random(model: ModelSource, attention: str = "sdpa") -> Any:
    """Return a model with seeded random weights.

    They are always drawn in float32 on the CPU, so that they are the same for every dtype, device and runtime.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(model.seed)
    config = random_config(model.architecture or {})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)


def drawn_folder(model: ModelSource, hw: Hardware) -> Path:
    """Return the cached folder of a random model of any size. Call it in one process, before the others need it.

    transformers writes nothing in other ranks than the first of a group.
    """
    return _kept(model, hw) or _entry(model, hw, lambda folder: _random(model).save_pretrained(folder))


def _kept(model: ModelSource, hw: Hardware) -> Path | None:
    """Return the cached folder of a large random model; None for a small model, which is not cached.

    Drawing billions of numbers takes minutes, and one benchmark cell loads the model several times. The weights are
    stored in bfloat16, as published models are.
    """
    if drawn_dtype(outline(model, "bfloat16")) is None:
        return None
    return _entry(model, hw, lambda folder: _drawn(model, hw.threads).save_pretrained(folder))


def drawn_dtype(module: Any) -> str | None:
    """Return the dtype in which a random model is cached; None for a small one, which is drawn at each load."""
    return None if sum(weight.numel() for weight in module.parameters()) < _KEPT_PARAMETERS else "bfloat16"


def _entry(model: ModelSource, hw: Hardware, draw: Callable[[Path], None]) -> Path:
    made_from = {
        "model": model.digest,
        "form": _DRAWN_FORM,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
    return artifacts.entry(hw.artifacts, "random", made_from, draw)


def _drawn(model: ModelSource, threads: int) -> Any:
    """Return a large random model in bfloat16. Tensors are drawn in parallel, each with its own seeded generator.

    Matrices are normally distributed with the configuration's `initializer_range` as standard deviation; norm weights
    are 1 and biases 0. The result does not depend on the machine or the number of threads.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = random_config(model.architecture or {})
    with torch.device("meta"):
        module: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    stored = set(module.state_dict())
    if any(name in stored for name, _ in module.named_buffers()):  # buffers with values unknown to us
        return _random(model).to(torch.bfloat16)
    module = module.to_empty(device="cpu")
    deviation = float(getattr(config.get_text_config(), "initializer_range", 0.02))

    def draw(name: str, tensor: Any) -> None:
        if tensor.ndim < 2:
            tensor.data.fill_(1.0 if name.endswith("norm.weight") else 0.0)
            return
        seed = int.from_bytes(hashlib.sha256(f"{model.seed} {name}".encode()).digest()[:7], "big")
        generator = torch.Generator().manual_seed(seed)
        for rows in tensor.data.split(_ROWS_AT_ONCE):
            rows.copy_(torch.empty(rows.shape, dtype=torch.float32).normal_(0.0, deviation, generator=generator))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(lambda pair: draw(*pair), module.named_parameters()))
    module.tie_weights()
    return module


def random_config(architecture: ReadOnlyJson) -> Any:
    """Return the transformers configuration of an architecture, with transformers' defaults for missing keys.

    Raises Unsupported if transformers does not know the model type with these values.
    """
    from transformers import AutoConfig

    options = dict(architecture)
    model_type = options.pop("model_type")
    try:
        return AutoConfig.for_model(model_type, **options)
    except ValueError as error:
        library = f"transformers {importlib.metadata.version('transformers')}"
        raise Unsupported(
            f"model.architecture.model_type={model_type} with these values is unknown to {library}"
        ) from error

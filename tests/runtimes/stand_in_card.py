"""A stand-in for a GPU: tensors that say they are on one, hold their numbers on the host, and count who waits for them.

Engines run on it as they are, with "cuda" for their device. It objects where a GPU would: to a tensor of the host among
those of the card. It counts what makes the host wait for a GPU: a number that is read, a copy that is not from pinned
memory, an index from a list, an operation whose result's size depends on its values, `torch.cuda.synchronize`. Of
several cards, it objects to tensors of two in one operation. What it cannot show is how fast anything is, and whether a
kernel exists.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily
from torch.utils._pytree import tree_iter, tree_map
from typing_extensions import override

NAME, MEMORY_BYTES = "NVIDIA H100 80GB HBM3", 85_000_000_000
# Their results' sizes depend on values: a GPU is waited for.
_SIZED_BY_VALUES = {
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "is_nonzero", "equal"),
    *("_local_scalar_dense", "bincount"),
}
_INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}


class OnCard(torch.Tensor):
    """Says that it is on a card, the first or that of a number; its numbers are in `host`, a tensor of the host."""

    host: torch.Tensor
    number: int
    # Of all of them:
    waits: ClassVar[list[str]] = []  # what the host waited for
    sent: ClassVar[list[tuple[int, ...]]] = []  # sizes of what came from the host

    @staticmethod
    def __new__(cls, host: torch.Tensor, number: int = 0, requires_grad: bool = False) -> OnCard:
        with torch.inference_mode(False):  # torch tracks views of tensors that were made outside of it
            made: Any = torch.Tensor._make_wrapper_subclass(
                cls, host.shape, strides=host.stride(), dtype=host.dtype, device=torch.device("meta")
            )
        made.host, made.number = host.detach(), number
        on_card: OnCard = made
        return on_card

    @override
    def __repr__(self, **given: Any) -> str:  # type: ignore[override]
        return f"OnCard({self.host})"

    @classmethod
    @override
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = _properties(func, args)
        if answer is not NotImplemented:
            return answer
        if getattr(func, "__name__", "") in ("__getitem__", "__setitem__"):
            args = (args[0], _index(args[1]), *map(_number, args[2:]))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    @override
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            return _copied(func, name, args, kwargs)
        strangers = [value for value in tree_iter((args, kwargs)) if _is_stranger(value)]
        if name in _INDEXING:
            indices = [index for index in tree_iter(args[1]) if isinstance(index, torch.Tensor)]
            if any(index.dtype is torch.bool for index in indices):
                cls.waits.append(f"{name} by truth values")
            if any(not isinstance(index, OnCard) for index in indices):
                cls.waits.append(f"{name} by a list or a tensor of the host")
            strangers = [value for value in strangers if not any(value is index for index in indices)]
        if any(type(value) is torch.Tensor and value.device.type == "meta" for value in tree_iter((args, kwargs))):
            raise AssertionError(f"{func}: made on the card behind the stand-in's back")
        if strangers:
            raise RuntimeError(f"{func}: a tensor of the host, {tuple(strangers[0].shape)}, among those of the card")
        if len({value.number for value in tree_iter((args, kwargs)) if isinstance(value, OnCard) and value.dim()}) > 1:
            raise RuntimeError(f"{func}: tensors of different cards")
        if name in _SIZED_BY_VALUES or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            cls.waits.append(name)
        return _run(func, args, kwargs)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    result = func(*tree_map(_host, args), **tree_map(_host, kwargs))
    number = _number_of((args, kwargs))
    written = {id(value.host): value for value in tree_iter((args, kwargs)) if isinstance(value, OnCard)}

    def back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return written[id(value)] if id(value) in written else OnCard(value, number)

    return back(result) if isinstance(result, torch.Tensor) else tree_map(back, result)


def _copied(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    if name == "copy_":
        target, source = args[:2]
        if isinstance(target, OnCard) != isinstance(source, OnCard):
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])) or not _is_pinned(source)
            if isinstance(target, OnCard):
                OnCard.sent.append(tuple(source.shape))
            if waits and source.dim():
                OnCard.waits.append("copy_ between host and card")
        _host(target).copy_(_host(source))
        return target
    device = kwargs.pop("device", None)
    kwargs.pop("pin_memory", None)
    if device is not None and torch.device(device).type == "cpu":
        OnCard.waits.append("a copy to the host")
        return func(_host(args[0]), **kwargs)
    number = _number_of(args) if device is None else torch.device(device).index or 0
    return OnCard(func(_host(args[0]), **kwargs), number)


def _number_of(values: Any) -> int:
    """Return the number of the card of these values; those without dimensions are taken along."""
    cards = [value for value in tree_iter(values) if isinstance(value, OnCard)]
    return next((value.number for value in cards if value.dim()), cards[0].number if cards else 0)


def _index(index: Any) -> Any:
    """Return an index with its lists on the card, where torch sends them and waits."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, list | range):
        OnCard.waits.append("an index by a list")
        return OnCard(torch.tensor(list(index)))
    return index


def _number(value: Any) -> Any:
    return OnCard(torch.tensor(value)) if isinstance(value, int | float) else value


def _host(value: Any) -> Any:
    if isinstance(value, OnCard):
        return value.host
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _is_stranger(value: Any) -> bool:
    """Is it a tensor of the host with more than one number? A GPU takes a single one along."""
    return isinstance(value, torch.Tensor) and not isinstance(value, OnCard) and value.dim() > 0


def _is_pinned(tensor: torch.Tensor) -> bool:
    return bool(getattr(tensor, "is_pinned_here", False))


def _properties(func: Any, args: Any) -> Any:
    """Return what a tensor of the card says of itself where that is not what torch would say."""
    name = getattr(func, "__name__", "")
    of = getattr(getattr(func, "__self__", None), "__name__", "")
    if not args or not isinstance(args[0], OnCard):
        return NotImplemented
    if name == "__get__" and of in ("device", "is_cuda", "is_cpu", "is_meta"):
        return {"device": torch.device("cuda", args[0].number), "is_cuda": True, "is_cpu": False, "is_meta": False}[of]
    if name == "data_ptr":
        return args[0].host.data_ptr()
    if name == "untyped_storage":
        return args[0].host.untyped_storage()
    if name == "get_device":
        return args[0].number
    if name in ("tolist", "numpy", "cpu"):
        OnCard.waits.append(name)
        return getattr(args[0].host, name)() if name != "cpu" else args[0].host.clone()
    return NotImplemented


class _Factories(TorchFunctionMode):
    """Makes what is asked for on "cuda"."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "pin_memory":
            pinned = args[0].clone()
            pinned.is_pinned_here = True
            return pinned
        if name == "to":
            return _moved(func, args, kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            sources = [value for value in tree_iter(args) if isinstance(value, torch.Tensor)]
            if name in ("tensor", "as_tensor", "asarray"):
                OnCard.waits.append("torch.tensor on the card")
            kwargs["device"] = "cpu"
            made = func(*tree_map(_host, args), **kwargs)
            is_made_here = not sources or name.endswith("_like") or name.startswith("new_")
            return OnCard(made, torch.device(device).index or 0) if is_made_here else made
        return func(*args, **kwargs)


def _moved(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensor, *others = args
    target, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    if others and isinstance(others[0], torch.Tensor):
        target, dtype = others[0].device, others.pop(0).dtype
    elif others and isinstance(others[0], str | torch.device | None):
        target = others.pop(0)
    if others and isinstance(others[0], torch.dtype | None):
        dtype = others.pop(0) or dtype
    non_blocking = kwargs.pop("non_blocking", others.pop(0) if others else False)
    is_copy = kwargs.get("copy", False) or (others and others[0])
    target = tensor.device if target is None else torch.device(target)
    number = target.index or 0
    if isinstance(tensor, OnCard) and target.type == "cuda" and tensor.number != number:
        return OnCard(tensor.host.to(dtype=dtype or tensor.dtype, copy=True), number)  # the host does not wait
    if (target.type == "cuda") == isinstance(tensor, OnCard):
        return func(tensor, dtype=dtype or tensor.dtype, copy=bool(is_copy))
    if isinstance(tensor, OnCard) and target.type == "meta":
        return torch.nn.Parameter(torch.empty_like(tensor.host, device="meta"), requires_grad=False)
    if isinstance(tensor, OnCard):
        OnCard.waits.append("a copy to the host")
        return func(tensor.host, dtype=dtype or tensor.dtype, copy=True)
    OnCard.sent.append(tuple(tensor.shape))
    if not (non_blocking and _is_pinned(tensor)):
        OnCard.waits.append("a copy to the card that is not from pinned memory")
    return OnCard(func(tensor.detach(), dtype=dtype or tensor.dtype, copy=True), number)


class Stream:
    """Stands for a stream; what is enqueued is done at once."""

    cuda_stream = 7
    order: ClassVar[list[str]] = []  # who waited for whom, and what was run, of all streams

    def __init__(self, name: str = "own") -> None:
        self.name = name

    def wait_stream(self, other: Stream) -> None:
        self.order.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        OnCard.waits.append("a stream")


def _resident_bytes() -> int:
    """Return the process's memory on the host, where the card's is."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _without_card(call: Any) -> Any:
    """Return a function that knows nothing of a card: what exports a model traces it on the host."""

    def run(*given: Any, **options: Any) -> Any:
        if not torch.overrides._get_current_function_mode_stack():
            return call(*given, **options)
        with pytest.MonkeyPatch.context() as patch, _pop_mode_temporarily():
            patch.setattr(torch.cuda, "is_available", lambda: False)
            return call(*given, **options)

    return run


@contextmanager
def card(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> Iterator[Callable[[], list[str]]]:
    """Be a machine with so many GPUs; yields a function that returns what was waited for since it was last called."""
    replaced: dict[str, Any] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *given: True,
        "get_device_capability": lambda *given: (9, 0),
        "get_device_name": lambda *given: NAME,
        "get_device_properties": lambda *given: SimpleNamespace(name=NAME, total_memory=MEMORY_BYTES, uuid="0"),
        "mem_get_info": lambda *given: (MEMORY_BYTES - _resident_bytes(), MEMORY_BYTES),
        "init": lambda: None,
        "current_device": lambda: 0,
        "device_count": lambda: count,
        "current_stream": lambda *given: Stream("torch's"),
        "Stream": Stream,
        "synchronize": lambda *given: OnCard.waits.append("synchronize"),
        "empty_cache": lambda: None,
    }
    with monkeypatch.context() as patch, _Factories():
        for name, value in replaced.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.onnx, "export", _without_card(torch.onnx.export))
        patch.setattr(importlib, "import_module", _without_card(importlib.import_module))  # a third of the time

        def waits() -> list[str]:
            found = list(OnCard.waits)
            OnCard.waits.clear()
            return found

        waits()
        yield waits

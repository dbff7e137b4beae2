"""The layers of a model over several GPUs, by accelerate: each GPU computes its layers in turn.

The last layers may be stored in host memory or on disk; they are copied to the first GPU whenever they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, Unsupported
from runtime_matrix.runtimes.placements.layer_plan import LayerPlan, layer_plan
from runtime_matrix.runtimes.weights.packages import require

_GIB = 2**30
_FREE_SHARE = 0.9  # of a device's free memory that weights may take, as in accelerate; the rest is for what is computed
_KEY = "runtime.placement"


class Balanced:
    """Distributes the layers evenly over the first `devices` GPUs (None: all), within `max_memory`.

    `max_memory` has GiB by GPU number, cpu or disk; parts go to cpu or disk only if it names them, when the GPUs are
    full. None: what is free on each GPU. The last `host_layers` layers are stored in `to`, host or disk.

    Raises Unsupported for values that contradict each other.
    """

    packages: ClassVar[tuple[str, ...]] = ("accelerate",)
    distributions: ClassVar[tuple[str, ...]] = ("accelerate",)
    is_whole: ClassVar[bool] = False
    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense", "packed"})

    def __init__(
        self,
        devices: int | None = None,
        max_memory: Mapping[Any, Any] | None = None,
        host_layers: int = 0,
        to: str = "host",
    ):
        if to not in ("host", "disk"):
            raise Unsupported(f"{_KEY}.to={to} is unknown; known: host, disk")
        if not isinstance(host_layers, int) or host_layers < 0:
            raise Unsupported(f"{_KEY}.host_layers={host_layers}: give a number of layers, 0 for none")
        self._host_layers, self._to = host_layers, to
        self._limits = {_device(key): _bytes(key, size) for key, size in (max_memory or {}).items()}
        numbers = sorted(key for key in self._limits if isinstance(key, int))
        if devices is not None and numbers and numbers != list(range(devices)):
            raise Unsupported(
                f"{_KEY}.devices={devices} contradicts {_KEY}.max_memory, which names the GPUs "
                f"{', '.join(map(str, numbers))}: leave devices out"
            )
        self._gpus = numbers or (None if devices is None else list(range(devices)))

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if accelerate or a GPU is missing, or on a CPU, if nothing would be moved."""
        require("accelerate", "offload")
        if hw.device == "cuda":
            self._check_gpus()
            return
        if self._gpus is not None:
            raise Unsupported(
                f"runtime/placement=balanced names {len(self._gpus)} GPU(s), and this machine computes on the CPU: "
                "hw.devices=n divides its cores among shards"
            )
        if self._host_layers and self._to == "host":
            raise Unsupported(f"the model is in host memory already: {_KEY}.to=disk, or a machine with a GPU")
        if not self._host_layers and "disk" not in self._limits:
            raise Unsupported(
                "runtime/placement=balanced needs several devices, and this machine computes on the CPU: use "
                "runtime/placement=device, or hw.devices=n for shards"
            )

    def _check_gpus(self) -> None:
        import torch

        count, first = torch.cuda.device_count(), torch.cuda.current_device()
        wanted = self._gpus or list(range(count))
        if wanted[-1] >= count:
            raise Unsupported(
                f"runtime/placement=balanced needs GPU {wanted[-1]}, and this machine has {count}, counted from 0: set "
                f"{_KEY}.devices or {_KEY}.max_memory for these"
            )
        if wanted[0] != first:
            raise Unsupported(
                f"runtime/placement=balanced starts with GPU {wanted[0]}, and hw=… chose GPU {first}: order them with "
                "CUDA_VISIBLE_DEVICES"
            )

    def plan(self, outline: Any, hw: Hardware, pack: Callable[[Any, Sequence[str]], None] | None) -> LayerPlan:
        """Return the plan for a module on the device `meta`; see `runtimes.planned.PlannedPlacement`."""
        self.check(hw)
        return layer_plan(outline, self._memory(hw), self._host_layers, self._to, pack)

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return a dense module with accelerate's hooks, ready to run. Raises Unsupported if memory is too small."""
        return self.plan(module, hw, None).place(module, hw)

    def _memory(self, hw: Hardware) -> dict[str, int]:
        """Return the bytes for weights by device: the GPUs or the CPU that compute first, then cpu and disk."""
        others = {str(key): self._limits[key] for key in ("cpu", "disk") if key in self._limits}
        if hw.device != "cuda":
            import psutil

            return {"cpu": int(_FREE_SHARE * psutil.virtual_memory().available)} | others
        import torch

        numbers = self._gpus or list(range(torch.cuda.device_count()))
        return {f"cuda:{number}": self._limits.get(number) or _free(number) for number in numbers} | others


def _free(number: int) -> int:
    import torch

    return int(_FREE_SHARE * torch.cuda.mem_get_info(number)[0])


def _device(key: object) -> int | str:
    if str(key).isdigit():
        return int(str(key))
    if key not in ("cpu", "disk"):
        raise Unsupported(f"{_KEY}.max_memory names {key}: give numbers of GPUs, cpu or disk, as in {{0: 12, cpu: 30}}")
    return str(key)


def _bytes(key: object, size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < float("inf"):
        raise Unsupported(f"{_KEY}.max_memory gives {key} {size}: give a number of GiB, as in {{0: 12, cpu: 30}}")
    return int(size * _GIB)

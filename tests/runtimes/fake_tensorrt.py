"""A fake of TensorRT's Python module over ONNX Runtime: the calls and bounds of the real one, computed on a CPU.

It takes a shape within its profile's bounds and returns False for others, reads and writes at the addresses that it is
given, and refuses to run with less memory than it asked for. `plan_of` tells what an engine was built with.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

from runtime_matrix.runtimes.engines.tensorrt_plan import TensorRTPlan
from tests.runtimes.stand_in_card import Stream

_BYTES_A_TOKEN = 64  # that a context asks for


class Severity(enum.IntEnum):
    ERROR, WARNING, INFO = 1, 2, 3


class ILogger:
    Severity = Severity


class DataType(enum.Enum):
    FLOAT, HALF, BF16 = "float32", "float16", "bfloat16"


class BuilderFlag(enum.Enum):
    TF32 = "TF32"


class ComputeCapability(enum.Enum):
    SM75, SM86, SM89, SM120 = "7.5", "8.6", "8.9", "12.0"


class Allocation(enum.Enum):
    STATIC, USER_MANAGED = "static", "user managed"


class Specialization(enum.Enum):
    LAZY, NONE = "lazy", "none"


class Config:
    def __init__(self) -> None:
        self.flags, self.profiles, self.capabilities = {"TF32"}, [], []  # type: ignore[var-annotated]
        self.num_compute_capabilities = 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag.value)

    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool:
        self.capabilities.append(capability.value)
        return index < self.num_compute_capabilities

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile.shapes)


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *bounds: tuple[int, ...]) -> None:
        self.shapes[name] = bounds


class Network:
    add_kv_cache_update = None  # it has one

    def __init__(self) -> None:
        self.path, self.inputs = "", []  # type: ignore[var-annotated]

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]


class OnnxParser:
    def __init__(self, network: Network, logger: Any):
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.path = path
        self._network.inputs = [SimpleNamespace(name=one.name, shape=one.shape) for one in _session(path).get_inputs()]
        return True


class Builder:
    def __init__(self, logger: Any):
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes:
        plan = {"path": network.path, "profiles": config.profiles, "flags": sorted(config.flags)}
        return json.dumps(plan | {"capabilities": config.capabilities}).encode()


class Runtime:
    def __init__(self, logger: Any):
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(json.loads(plan), self._logger)


class Engine:
    def __init__(self, plan: Mapping[str, Any], logger: Any):
        self.plan, self.logger, self.session = plan, logger, _session(plan["path"])
        self.asked: list[Any] = []  # options of its contexts
        self._values = {one.name: one for one in (*self.session.get_inputs(), *self.session.get_outputs())}

    @property
    def num_io_tensors(self) -> int:
        return len(self._values)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._values)[index])

    def get_tensor_shape(self, name: str) -> Any:
        return self._values[name].shape

    def get_tensor_dtype(self, name: str) -> DataType:
        return {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}[self._values[name].type]

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        return self.plan["profiles"][profile][name]

    def create_runtime_config(self) -> Any:
        options = SimpleNamespace(strategy=Allocation.STATIC)
        options.dynamic_shapes_kernel_specialization_strategy = Specialization.LAZY
        options.set_execution_context_allocation_strategy = lambda own: setattr(options, "strategy", own)
        return options

    def create_execution_context(self, options: Any = None) -> Context:
        self.asked.append(options)
        return Context(self)


class Context:
    def __init__(self, engine: Engine):
        self._engine, self._profile = engine, 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.needed_bytes = self.given_bytes = self.told = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> None:
        self._profile = profile

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        lowest, _, highest = self._engine.get_tensor_profile_shape(name, self._profile)
        if len(shape) != len(lowest) or not all(
            a <= size <= b for a, size, b in zip(lowest, shape, highest, strict=True)
        ):
            return False
        self._shapes[name] = shape
        self.told += 1
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        assert address, name
        self._addresses[name] = address

    def update_device_memory_size_for_shapes(self) -> int:
        (rows, tokens), (slots,) = self._shapes["ids"], self._shapes["slots"]
        self.needed_bytes = rows * tokens * slots * _BYTES_A_TOKEN
        return self.needed_bytes

    def set_device_memory(self, address: int, size: int) -> None:
        assert address
        self.given_bytes = size

    def execute_async_v3(self, stream: int) -> bool:
        assert self.given_bytes >= self.needed_bytes > 0
        Stream.order.append("run")
        session = self._engine.session
        inputs = {one.name: self._array(one.name, self._shapes[one.name], one.type) for one in session.get_inputs()}
        for one, made in zip(session.get_outputs(), session.run(None, inputs), strict=True):
            if one.name.startswith("new_"):
                assert self._addresses[one.name] == self._addresses[one.name.removeprefix("new_")], "not in place"
            self._array(one.name, made.shape, one.type)[...] = made
        return True

    def _array(self, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray[Any, Any]:
        dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
        dtype = dtypes[kind]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory: Any = (ctypes.c_char * size).from_address(self._addresses[name]) if size else bytearray()
        return np.frombuffer(memory, dtype).reshape(shape)


def module(name: str) -> Any:
    """Return the fake as a module of this name: tensorrt or tensorrt_rtx."""
    return SimpleNamespace(
        __name__=name,
        __version__="0",
        ILogger=ILogger,
        DataType=DataType,
        BuilderFlag=BuilderFlag,
        ComputeCapability=ComputeCapability,
        ExecutionContextAllocationStrategy=Allocation,
        DynamicShapesKernelSpecializationStrategy=Specialization,
        INetworkDefinition=Network,
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        OnnxParser=OnnxParser,
        Builder=Builder,
        Runtime=Runtime,
    )


def fake_plan(name: str = "tensorrt", bounds: tuple[int, int | None] = (8, 64)) -> TensorRTPlan:
    """Return our engine over the fake; it wants a `stand_in_card`."""
    return TensorRTPlan(module(name), "float32", bounds)


def plan_of(runtime: TensorRTPlan) -> Mapping[str, Any]:
    plan: Mapping[str, Any] = runtime._engine.plan
    return plan


def _session(path: str | Path) -> Any:
    options = SessionOptions()
    options.intra_op_num_threads = 1  # more would spin between the steps
    return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

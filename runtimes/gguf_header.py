"""Reads the header of a GGUF file: metadata and the list of tensors, without the tensors' values.

Readers in other packages believe every count in the file, so that a damaged one fills the memory. Here each count is
checked against the size of the file first. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 2**16  # metadata, or tensors; published models have some hundreds
_MOST_ELEMENTS = 2**24  # of an array; vocabularies have some 100,000
_MOST_NAME_BYTES = 2**10
_MOST_STRING_BYTES = 2**20  # chat templates have some 10,000
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_MOST_WEIGHTS = 2**48
_ALIGNMENT = 32  # unless the metadata state another

Scalar = int | float | bool | str


class GgufError(ValueError):
    """The file is not a GGUF file that can be read; one line."""


@dataclass(frozen=True)
class GgufTensor:
    """An entry in the list of tensors. `shape` is in torch's order; `type` is ggml's name, such as Q4_0."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int

    @property
    def weights(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The metadata of one value, the lengths of the arrays among them, and the tensors."""

    values: Mapping[str, Scalar]
    lengths: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """Return llama.cpp's name of the architecture, such as llama or qwen2."""
        return str(self.values["general.architecture"])

    def of_architecture(self, key: str) -> Scalar | None:
        """Return a value whose key starts with the architecture, such as `context_length`; None without it."""
        return self.values.get(f"{self.architecture}.{key}")

    @property
    def weights(self) -> int:
        """Return the number of weights, without the factors of rotary embeddings, which are no weights."""
        return sum(tensor.weights for tensor in self.tensors if not tensor.name.startswith("rope_"))

    @property
    def main_type(self) -> str:
        """Return the type of most weights: a file mixes types, and its norms have float32."""
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            counts[tensor.type] = counts.get(tensor.type, 0) + tensor.weights
        return max(counts, key=counts.__getitem__)

    @property
    def is_tied(self) -> bool:
        """Return whether the output layer shares the weights of the embedding."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)


def is_gguf(path: Path) -> bool:
    """Return whether a path names a GGUF file rather than a folder in Hugging Face's layout."""
    return path.suffix == ".gguf"


def read_header(file: Path) -> GgufHeader:
    """Return the header. Raises GgufError for a file that is not whole, and ImportError without the package gguf."""
    with open(file, "rb") as stream:
        start = stream.read(8)
        if start[:4] != _MAGIC:
            raise GgufError(f"its first bytes are {start[:4]!r}, not {_MAGIC!r}")
        version = int.from_bytes(start[4:8], "little")
        if version not in _VERSIONS:
            known = " and ".join(map(str, _VERSIONS))
            swapped = ", in the byte order of another machine" if version and version & 0xFFFF == 0 else ""
            raise GgufError(f"it states the format version {version}{swapped}; known: {known}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header()


class _Reader:
    """A position in the file that moves forward; no read passes the end of the file."""

    def __init__(self, content: mmap.mmap):
        self._content, self._size, self._position = content, len(content), 8

    def header(self) -> GgufHeader:
        tensors = self._count("tensors", _MOST_ENTRIES, least_bytes=24)
        entries = self._count("metadata", _MOST_ENTRIES, least_bytes=13)
        values: dict[str, Scalar] = {}
        lengths: dict[str, int] = {}
        for _ in range(entries):
            key = self._string(_MOST_NAME_BYTES, "a metadata key")
            if key in values or key in lengths:
                raise GgufError(f"it states {key} twice")
            value = self._value(key)
            if value is None:
                lengths[key] = self._array(key)
            else:
                values[key] = value
        if not isinstance(values.get("general.architecture"), str):
            raise GgufError("it does not state general.architecture")
        listed = [self._tensor() for _ in range(tensors)]
        self._check_data(listed, values.get("general.alignment", _ALIGNMENT))
        return GgufHeader(values, lengths, tuple(tensor for tensor, _ in listed))

    def _value(self, key: str) -> Scalar | None:
        """Return the next value; None for an array, whose content follows."""
        kind = self._number("<I")
        if kind == _ARRAY:
            return None
        if kind == _STRING:
            return self._string(_MOST_STRING_BYTES, key)
        if kind not in _SCALARS:
            raise GgufError(f"{key} has the unknown type {kind}")
        value: Scalar = self._number(_SCALARS[kind])
        if isinstance(value, float) and not math.isfinite(value):
            raise GgufError(f"{key} is {value}")
        return value

    def _array(self, key: str) -> int:
        """Return the length of the next array, and pass its elements."""
        kind = self._number("<I")
        if kind == _STRING:
            length = self._count(f"elements of {key}", _MOST_ELEMENTS, least_bytes=8)
            for _ in range(length):
                self._skip(self._number("<Q"), key)
            return length
        if kind not in _SCALARS:
            raise GgufError(f"{key} is an array of the unknown type {kind}")
        width = struct.calcsize(_SCALARS[kind])
        length = self._count(f"elements of {key}", _MOST_ELEMENTS, least_bytes=width)
        self._skip(length * width, key)
        return length

    def _tensor(self) -> tuple[GgufTensor, int]:
        """Return the next tensor and the offset of its values."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self._string(_MOST_NAME_BYTES, "a tensor's name")
        dimensions = self._number("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise GgufError(f"{name} has {dimensions} dimensions; 1 to {_MOST_DIMENSIONS} are possible")
        shape = tuple(reversed([self._number("<Q") for _ in range(dimensions)]))
        kind, offset = self._number("<I"), self._number("<Q")
        if min(shape) < 1 or math.prod(shape) > _MOST_WEIGHTS:
            raise GgufError(f"{name} has the impossible shape {shape}")
        if kind not in {known.value for known in GGMLQuantizationType}:
            raise GgufError(f"{name} has the unknown type {kind}: a newer version of the package gguf may know it")
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if shape[-1] % block:
            raise GgufError(f"{name} has rows of {shape[-1]} weights, which are no blocks of {block}")
        size = math.prod(shape) // block * block_bytes
        return GgufTensor(name, shape, GGMLQuantizationType(kind).name, size), offset

    def _check_data(self, listed: list[tuple[GgufTensor, int]], alignment: Scalar) -> None:
        """Refuse values that are missing, unaligned or under one name twice."""
        if (
            isinstance(alignment, bool)
            or not isinstance(alignment, int)
            or alignment < 1
            or alignment & (alignment - 1)
        ):
            raise GgufError(f"general.alignment is {alignment!r}, not a power of 2")
        if not listed:
            raise GgufError("it has no tensors")
        if len({tensor.name for tensor, _ in listed}) < len(listed):
            raise GgufError("it lists a tensor twice")
        start = -(-self._position // alignment) * alignment
        for tensor, offset in listed:
            if offset % alignment:
                raise GgufError(f"{tensor.name} is not aligned to {alignment} bytes")
            end = start + offset + tensor.bytes
            if end > self._size:
                raise GgufError(f"{tensor.name} ends at byte {end:,}, and the file has {self._size:,}")

    def _count(self, what: str, most: int, least_bytes: int) -> int:
        """Return the next count of things that take at least `least_bytes` each."""
        count = int(self._number("<Q"))
        if count > most or count * least_bytes > self._size - self._position:
            raise GgufError(f"it states {count:,} {what}, in {self._size:,} bytes")
        return count

    def _string(self, most: int, what: str) -> str:
        length = self._number("<Q")
        if length > most:
            raise GgufError(f"{what} has {length:,} bytes; at most {most:,} are read")
        start = self._position
        self._skip(length, what)
        try:
            return self._content[start : self._position].decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"{what} is not text in UTF-8") from error

    def _skip(self, length: int, what: str) -> None:
        if length > self._size - self._position:
            raise GgufError(f"it ends within {what}, after {self._size:,} bytes")
        self._position += length

    def _number(self, form: str) -> int:
        start = self._position
        self._skip(struct.calcsize(form), "its header")
        number: int = struct.unpack_from(form, self._content, start)[0]
        return number

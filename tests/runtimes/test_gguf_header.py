"""The header of a GGUF file: as the package gguf reads it, and damaged in every way that fills another's memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.runtimes.gguf_header import GgufError, read_header
from tests.gguf_files import write_gguf

gguf = pytest.importorskip("gguf", reason="the extra llamacpp is not installed")

_HUGE = struct.pack("<Q", 2**60)
_ENTRY = struct.pack("<Q", 1) + b"k"  # a metadata key
_TENSOR = struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(BUNDLED / "model", tmp_path_factory.mktemp("gguf") / "bundled.gguf", "Q8_0")


def test_the_header_is_what_the_package_gguf_reads(file: Path) -> None:
    header, reader = read_header(file), gguf.GGUFReader(file)
    read = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    arrays = {name for name, field in read.items() if field.types[0] == gguf.GGUFValueType.ARRAY}
    assert dict(header.values) == {name: field.contents() for name, field in read.items() if name not in arrays}
    assert dict(header.lengths) == {name: len(read[name].data) for name in arrays}
    for ours, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert (ours.name, ours.type, ours.bytes) == (theirs.name, theirs.tensor_type.name, theirs.n_bytes)
        assert list(reversed(ours.shape)) == theirs.shape.tolist()
    assert (header.main_type, header.is_tied) == ("Q8_0", False)


def start(tensors: int = 1, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def metadata(kind: int, value: bytes) -> bytes:
    return start(entries=1) + _ENTRY + struct.pack("<I", kind) + value + bytes(64)


def with_tensor(rest: bytes) -> bytes:
    name = b"general.architecture"
    stated = struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, 5) + b"llama"
    return start(entries=1) + stated + _TENSOR + rest + bytes(64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first bytes are b'', not"),
        (b"PK\3\4 something else", "its first bytes are b'PK"),
        (b"GGUF", "states the format version 0"),
        (start(version=1), "states the format version 1; known: 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "in the byte order of another machine"),
        (start()[:15], "ends within its header, after 15 bytes"),
        (b"GGUF" + struct.pack("<I", 3) + _HUGE + _HUGE, "states 1,152,921,504,606,846,976 tensors"),
        (b"GGUF" + struct.pack("<IQ", 3, 0) + _HUGE, "states 1,152,921,504,606,846,976 metadata"),
        (start(entries=1) + _HUGE + bytes(64), "a metadata key has 1,152,921,504,606,846,976 bytes"),
        (metadata(8, _HUGE), "k has 1,152,921,504,606,846,976 bytes"),
        (metadata(9, struct.pack("<I", 4) + _HUGE), "states 1,152,921,504,606,846,976 elements of k"),
        (metadata(9, struct.pack("<I", 8) + _HUGE), "states 1,152,921,504,606,846,976 elements of k"),
        (metadata(9, struct.pack("<IQ", 8, 2) + _HUGE), "ends within k"),
        (metadata(9, struct.pack("<IQ", 9, 1)), "k is an array of the unknown type 9"),
        (metadata(6, struct.pack("<f", float("nan"))), "k is nan"),
        (metadata(99, b""), "k has the unknown type 99"),
        (metadata(8, struct.pack("<Q", 1) + b"\xff"), "k is not text in UTF-8"),
        (metadata(4, bytes(4)), "does not state general.architecture"),
        (with_tensor(_HUGE + _HUGE + struct.pack("<IQ", 0, 0)), "t has the impossible shape"),
        (with_tensor(struct.pack("<QQIQ", 8, 0, 0, 0)), "t has the impossible shape"),
        (with_tensor(struct.pack("<QQIQ", 8, 8, 77, 0)), "t has the unknown type 77"),
        (with_tensor(struct.pack("<QQIQ", 8, 8, 8, 0)), "t has rows of 8 weights, which are no blocks of 32"),
        (with_tensor(struct.pack("<QQIQ", 8, 8, 0, 0)), "t ends at byte"),
        (with_tensor(struct.pack("<QQIQ", 8, 1, 0, 7)), "t is not aligned to 32 bytes"),
    ],
)
def test_a_damaged_header_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(GgufError) as caught:
        read_header(tmp_path / "bad.gguf")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [lambda size: 100, lambda size: size // 2, lambda size: size - 1])
def test_a_truncated_file_is_refused(file: Path, cut: Callable[[int], int], tmp_path: Path) -> None:
    content = file.read_bytes()
    (tmp_path / "short.gguf").write_bytes(content[: cut(len(content))])
    with pytest.raises(GgufError, match=r"ends within|ends at byte|states 39 tensors"):
        read_header(tmp_path / "short.gguf")


def test_a_header_that_states_too_much_takes_little_memory(tmp_path: Path) -> None:
    """A sparse file is as large as its counts need, and the counts are limited."""
    path = tmp_path / "sparse.gguf"
    with open(path, "wb") as stream:
        stream.write(metadata(9, struct.pack("<IQ", 8, 2**30)))
        stream.truncate(2**40)
    with pytest.raises(GgufError, match="states 1,073,741,824 elements of k"):
        read_header(path)

import os
from pathlib import Path

import pytest

from runtime_matrix.experiments import cache
from runtime_matrix.runtimes.artifacts import entries, entry, prune


def test_an_entry_is_built_once_and_again_when_damaged(tmp_path: Path) -> None:
    built: list[int] = []

    def build(folder: Path) -> None:
        built.append(1)
        (folder / "graph").write_text("whole")

    folder = entry(tmp_path, "onnx", {"model": "a"}, build)
    assert entry(tmp_path, "onnx", {"model": "a"}, build) == folder
    assert len(built) == 1
    (folder / "graph").write_text("torn!")
    assert (entry(tmp_path, "onnx", {"model": "a"}, build) / "graph").read_text() == "whole"
    assert len(built) == 2
    assert entry(tmp_path, "onnx", {"model": "b"}, build) != folder


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "file").write_bytes(b"x" * 1000)

    made = [entry(tmp_path, "onnx", {"n": n}, build) for n in range(3)]
    for age, folder in enumerate(reversed(made)):
        os.utime(folder / "manifest.json", (1000 - age, 1000 - age))
    assert [one.made_from["n"] for one in entries(tmp_path)] == [0, 1, 2]
    entry(tmp_path, "onnx", {"n": 0}, build)  # used again
    sizes = sum(one.size_bytes for one in entries(tmp_path))
    assert [one.made_from["n"] for one in prune(tmp_path, sizes - 1)] == [1]
    assert [one.made_from["n"] for one in entries(tmp_path)] == [2, 0]


def test_the_command_lists_and_prunes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def build(folder: Path) -> None:
        (folder / "file").write_text("x")

    entry(tmp_path, "onnx", {"model": "abc"}, build)
    assert cache.main([str(tmp_path)]) == 0
    assert "1 entries" in capsys.readouterr().out
    assert cache.main([str(tmp_path), "--prune", "0"]) == 0
    assert "0 entries" in capsys.readouterr().out
    assert cache.main([str(tmp_path), "--prune", "-1"]) == 2
    assert cache.main([str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2

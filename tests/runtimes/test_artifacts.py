from pathlib import Path

from runtimes.artifacts import entry


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

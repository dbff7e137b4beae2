"""What is carried to a node without the shared folder, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.launchers import transport

TOKEN = "token"


def results_with_unit(folder: Path) -> Path:
    """Return the folder of a unit that reads a record."""
    unit = folder / "units" / "a"
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "record.json").write_text("{}")
    (folder / "base" / "not-read").write_text("")
    unit.mkdir(parents=True)
    order = {"token": TOKEN, "results": str(folder), "inputs": ["base/record.json"]}
    (unit / transport.ORDER_FILE).write_text(json.dumps(order))
    return unit


def computed(unit: Path, token: str, threads: int) -> int:
    """Stand in for the process of a unit."""
    results = Path(json.loads((unit / transport.ORDER_FILE).read_text())["results"])
    assert sorted(path.name for path in results.rglob("*") if path.is_file()) == ["record.json", transport.ORDER_FILE]
    (results / "base" / "speed.json").write_text(f"{threads}")
    (results / "artifacts").mkdir()
    (results / "artifacts" / "large").write_text("stays")
    (unit / f"outcome-{token}.json").write_text("{}")
    return 0


def test_a_unit_is_carried_with_what_it_reads_and_returns_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    unit = results_with_unit(results)
    scratch.mkdir()
    monkeypatch.setattr(transport, "run_unit", computed)
    archive = transport.compute_here(transport.parcel(unit), TOKEN, scratch, threads=3)
    transport.deliver(archive, results)
    assert (results / "base" / "speed.json").read_text() == "3"
    assert (unit / f"outcome-{TOKEN}.json").exists()
    assert not (results / "artifacts").exists()
    assert json.loads((unit / transport.ORDER_FILE).read_text())["results"] == str(results)


def test_a_second_outcome_is_not_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    unit = results_with_unit(results)
    monkeypatch.setattr(transport, "run_unit", computed)
    archives: list[bytes] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        archives.append(transport.compute_here(transport.parcel(unit), TOKEN, tmp_path / name, threads=len(archives)))
    for archive in archives:
        transport.deliver(archive, results)
    assert (results / "base" / "speed.json").read_text() == "0"


def test_another_folder_of_the_same_name_is_not_taken_for_the_shared_one(tmp_path: Path) -> None:
    unit = results_with_unit(tmp_path)
    assert transport.is_here(unit, TOKEN)
    assert not transport.is_here(unit, "another token")
    assert not transport.is_here(tmp_path / "elsewhere", TOKEN)

"""`explain`: which cell is meant, what is read, what is measured, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.explain import main
from runtime_matrix.experiments.records.profile import PROFILE_FILE, read_profile, write_profile
from tests.experiments.analysis.test_causes import BASE, GROWN, profile
from tests.experiments.recorded import make_record, write

SAY = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [make_record("eager"), make_record("compile", slowness=2.0, started_at="2026-11-01T10:01:00+00:00")]
    return write(tmp_path_factory.mktemp("explained") / "runs", records, {"compile": 0.5})


def test_without_a_cell_the_newest_run_is_explained(runs: Path, capsys: SAY) -> None:
    assert main(["--results", str(runs), "--no-profile"]) == 0
    text = capsys.readouterr().out
    assert "eager: ok: the reference" in text
    assert "slower decode (" in text
    assert "not profiled: only its profile can tell" in text


def test_a_stored_profile_names_the_cause(runs: Path, capsys: SAY) -> None:
    slow = next(path.parent for path in runs.glob("*compile*/record.json"))
    reference = next(path.parent for path in runs.glob("*eager*/record.json"))
    write_profile(slow, profile(GROWN, 4, profiled_ms=4))
    write_profile(reference, profile(BASE))
    try:
        assert main([str(slow)]) == 0  # no profile is missing, so none is taken
        assert "slower products: products (a products node) take" in capsys.readouterr().out
        (slow / PROFILE_FILE).write_text('{"schema_version": 1, "phases": ')
        assert main([slow.name, "--results", str(runs), "--no-profile"]) == 0
        assert "profile.json cannot be read: " in capsys.readouterr().out
    finally:
        (slow / PROFILE_FILE).unlink()
        (reference / PROFILE_FILE).unlink()


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"schema_version": 9}', '{"schema_version": 1, "threads": 2, "phases": {"decode": {}}}', "\0"]
)
def test_a_damaged_profile_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / PROFILE_FILE).write_text(text)
    found, problem = read_profile(tmp_path)
    assert found is None
    assert problem is not None
    assert problem.startswith("profile.json cannot be read: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["onnxruntim", "--no-profile"], 2, "onnxruntim is not recorded; known: compile, eager"),
        (["--ladder"], 2, "--ladder needs one cell"),
        (["eager"], 3, "eager: ok: the reference"),
    ],
)
def test_what_cannot_be_explained_is_one_line(words: list[str], code: int, says: str, runs: Path, capsys: SAY) -> None:
    assert main(["--results", str(runs), *words]) == code
    captured = capsys.readouterr()
    assert says in captured.out + captured.err


def test_a_record_without_its_configuration_cannot_be_profiled(runs: Path, capsys: SAY) -> None:
    assert main(["--results", str(runs), "compile"]) == 2
    assert "does not hold its configuration: measure the cell again" in capsys.readouterr().err


def test_a_folder_without_records_is_a_mistake(tmp_path: Path, capsys: SAY) -> None:
    assert main(["--results", str(tmp_path)]) == 2
    assert "holds no record" in capsys.readouterr().err

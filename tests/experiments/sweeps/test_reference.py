"""The reference is computed once for all cells of a sweep that need the same of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.outcome import Outcome
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import CellIdentity, Sweep
from runtime_matrix.experiments.sweeps.one_cell import identity_of_cell
from runtime_matrix.experiments.sweeps.reference import made_from, place_reference


def cell(artifacts: Path, *words: str) -> Cell:
    return plan(compose(["model=random", "benchmark=[memory]", f"artifacts_dir={artifacts}", *words]), "a test")


def identity(of: Cell, run_id: str = "run", is_dirty: bool = False) -> CellIdentity:
    here = replace(environment(), is_dirty=is_dirty)
    return identity_of_cell(of, run_id, f"{run_id}-00", here, False, Sweep(id="s", cells=1, index=0))


OK = Outcome("ok", None, 0)


class Computing:
    def __init__(self, outcome: Outcome = OK):
        self.calls, self.outcome = 0, outcome

    def __call__(self, folder: Path) -> Outcome:
        self.calls += 1
        (folder / "reference.npz").write_text(str(self.calls))
        (folder / "journal.jsonl").write_text("{}")
        (folder / "output.log").write_text("Traceback")
        return self.outcome


def folders(tmp_path: Path, *names: str) -> list[Path]:
    made = [tmp_path / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


def test_two_runtimes_share_the_reference_s_outputs(tmp_path: Path) -> None:
    compute, (first, second) = Computing(), folders(tmp_path, "a", "b")
    for folder, runtime in ((first, "compile"), (second, "onnxruntime")):
        made = cell(tmp_path / "artifacts", f"runtime={runtime}")
        assert place_reference(made, folder, identity(made), compute).status == "ok"
    assert compute.calls == 1
    assert [path.name for path in second.iterdir()] == ["reference.npz"]
    (second / "reference.npz").unlink()  # a cell removes what is its own
    assert (first / "reference.npz").read_text() == "1"


@pytest.mark.parametrize(
    "word",
    [
        *("seed=1", "runtime.dtype=bfloat16", "agreement.continuations=2", "hw.threads=1", "model.seed=3"),
        "calibration.tokens=9",
    ],
)
def test_another_input_of_the_reference_makes_another_artifact(tmp_path: Path, word: str) -> None:
    one, other = cell(tmp_path), cell(tmp_path, word)
    assert made_from(one, identity(one)) != made_from(other, identity(other))


def test_the_content_of_files_is_an_input(tmp_path: Path) -> None:
    text, calibration = tmp_path / "text.txt", tmp_path / "calibration.txt"
    text.write_text("One text. " * 400)
    calibration.write_text("A text.")
    words = ["model=bundled", "benchmark=[divergence]", f"benchmark.divergence.data={text}"]
    keys = []
    for changed in (None, text, calibration):
        if changed is not None:
            changed.write_text(changed.read_text() + "Another end.")
        planned = cell(tmp_path / "artifacts", *words, f"calibration.data={calibration}")
        keys.append(made_from(planned, identity(planned)))
    assert keys[0] != keys[1]
    assert keys[1] != keys[2]


def test_benchmarks_without_a_reference_do_not_change_the_artifact(tmp_path: Path) -> None:
    one, both = cell(tmp_path), cell(tmp_path, "benchmark=[latency,memory]")
    assert made_from(one, identity(one)) == made_from(both, identity(both))


def test_code_and_packages_of_a_runtime_do_not_change_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    engine = tmp_path / "engine_under_test.py"
    engine.write_text("import jinja2\n\n\nclass Mine:\n    pass\n")
    words = ["runtime=custom", "runtime.engine.target=engine_under_test:Mine"]
    one, mine = cell(tmp_path), cell(tmp_path, *words)
    assert one.code != mine.code
    assert made_from(one, identity(one)) == made_from(mine, identity(mine))


def test_cells_cannot_write_into_the_shared_files(tmp_path: Path) -> None:
    (folder,) = folders(tmp_path, "a")
    planned = cell(tmp_path / "artifacts")
    place_reference(planned, folder, identity(planned), Computing())
    assert (folder / "reference.npz").stat().st_mode & 0o777 == 0o444


def test_outputs_that_cannot_be_stored_are_an_outcome(tmp_path: Path) -> None:
    (folder,) = folders(tmp_path, "a")
    (folder / "reference.npz").mkdir()  # a file cannot replace it
    planned = cell(tmp_path / "artifacts")
    outcome = place_reference(planned, folder, identity(planned), Computing())
    assert outcome.status == "error"
    assert str(outcome.reason).startswith("the reference's outputs cannot be stored: ")


def test_options_of_other_benchmarks_do_not_change_the_artifact(tmp_path: Path) -> None:
    one, other = cell(tmp_path), cell(tmp_path, "benchmark.memory.new_tokens=3")
    assert made_from(one, identity(one)) == made_from(other, identity(other))
    words = ["model=bundled", "benchmark=[divergence]"]
    one, other = cell(tmp_path, *words), cell(tmp_path, *words, "benchmark.divergence.tokens=100")
    assert made_from(one, identity(one)) != made_from(other, identity(other))


def test_outputs_of_uncommitted_code_are_used_in_one_run_only(tmp_path: Path) -> None:
    made = cell(tmp_path)
    runs = [made_from(made, identity(made, run, is_dirty)) for run in ("a", "b") for is_dirty in (False, True)]
    assert runs[0] == runs[2]
    assert runs[1] != runs[3]


def test_a_failure_is_not_stored(tmp_path: Path) -> None:
    compute, (first, second) = Computing(Outcome("crash", "killed by SIGKILL", -9)), folders(tmp_path, "a", "b")
    made = cell(tmp_path / "artifacts")
    for folder in (first, second):
        assert place_reference(made, folder, identity(made), compute) == compute.outcome
    assert compute.calls == 2
    assert [path.name for path in first.iterdir()] == ["output.log"]  # says why
    assert (first / "output.log").read_text() == "Traceback"

"""`python -m experiments.claims`: published matrices, records, a Markdown file, and mistakes in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runtime_matrix.experiments.claims import main
from tests.conftest import ROOT
from tests.experiments.recorded import sweep
from tests.in_process import call

PUBLISHED = ROOT / "results" / "amd-epyc-2-cores"
CLOSING = re.compile(r"(\d+) claims: (\d+) measured \((.*)\), (\d+) unmeasured")


def test_the_published_results_are_judged_and_every_claim_is_counted() -> None:
    done = call(main, [str(path) for path in (ROOT / "results").iterdir() if path.name != "runs"])
    assert done.returncode == 0, done.stderr
    found = CLOSING.fullmatch(done.stdout.splitlines()[-1])
    assert found
    claims, measured, unmeasured = (int(found[group]) for group in (1, 2, 4))
    assert claims == measured + unmeasured
    assert sum(int(part.split()[0]) for part in found[3].split(", ")) == measured >= 25


def test_the_published_table_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    written = tmp_path / "claims.md"
    folders = [str(PUBLISHED.relative_to(ROOT)), "results/intel-xeon-2-cores"]
    assert call(main, [*folders, "--output", str(written)]).returncode == 0
    assert written.read_text(encoding="utf-8") == (PUBLISHED / "claims.md").read_text(encoding="utf-8")


def test_records_are_judged_and_claims_chosen(tmp_path: Path) -> None:
    done = call(main, [str(sweep(tmp_path)), "--only", "compile-speed", "--only", "kv-cache"])
    assert done.returncode == 0
    assert "1.5 [" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 claims: 1 measured (0 hold, 1 more, 0 less, 0 opposite), 1 unmeasured"


def test_results_is_read_if_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(main, []).returncode == 2
    sweep(tmp_path / "results" / "runs")
    done = call(main, ["--only", "compile-speed"])
    assert (done.returncode, done.stdout.splitlines()[-1][:20]) == (0, "1 claim: 1 measured ")


def damaged(tmp_path: Path, kind: str) -> list[str]:
    folder = tmp_path / "runs"
    if kind == "missing":
        return [str(folder)]
    if kind == "id":
        return [str(sweep(folder)), "--only", "compile-sped"]
    if kind == "torn record":
        next(iter(sorted(sweep(folder).glob("*/record.json")))).write_text("{")
        return [str(folder)]
    folder.mkdir()
    content = {"torn matrix": "[{", "another array": "[1]", "other JSON": "{}", "deep": "[" * 100_000}.get(kind)
    if content is not None:
        (folder / "matrix.json").write_text(content)
    return [str(folder)]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "is not a folder or a file"),
        ("id", "did you mean 'compile-speed'?"),
        ("torn record", "cannot be read"),
        ("torn matrix", "is not JSON"),
        ("deep", "is not JSON"),
        ("another array", "is not a published matrix"),
        ("other JSON", "no record or matrix"),
        ("empty", "no record or matrix"),
    ],
)
def test_a_mistake_is_one_line(kind: str, said: str, tmp_path: Path) -> None:
    done = call(main, damaged(tmp_path, kind))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_figures_of_strange_size_measure_nothing(tmp_path: Path) -> None:
    rows = json.loads((PUBLISHED / "matrix.json").read_text(encoding="utf-8"))
    for row in rows:
        row |= {key: 1e308 for key, value in row.items() if key.endswith("_high") and value is not None}
        row |= {key: 5e-324 for key, value in row.items() if key.endswith("_low") and value is not None}
        row |= {"weight_bytes": float("nan"), "load_s": float("inf")}
    (tmp_path / "matrix.json").write_text(json.dumps(rows))
    done = call(main, [str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\b(nan|inf)\b", done.stdout)


def test_an_output_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    done = call(main, [str(sweep(tmp_path / "runs")), "--output", str(tmp_path / "none" / "claims.md")])
    assert done.returncode == 2
    assert "--output names another file" in done.stderr

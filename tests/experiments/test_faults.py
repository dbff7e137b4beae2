"""Disks that are full, files that are damaged, output that nobody reads, and records of others that mean harm."""

from __future__ import annotations

import csv
import errno
import html
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.report import main
from runtime_matrix.experiments.reports.page import page
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.text import clean, csv_text, json_text, markdown
from tests.conftest import ROOT
from tests.experiments.recorded import make_record, result, sweep
from tests.experiments.test_run import FAKE, Run, records


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_results_dir_is_reported_in_one_line(run: Run, small_disk: Path) -> None:
    done = run(*FAKE, "agreement.enabled=false", "progress=false", f"results_dir={small_disk}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch(r"error: No space left on device: \S+; earlier records are complete\n", done.stderr)
    assert not list(small_disk.rglob(".record.json.*"))


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "record.json", "before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*record\.json"):
        write_atomic(tmp_path / "record.json", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert (tmp_path / "record.json").read_text() == "before"


def test_a_damaged_cache_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(os.urandom(4000))
    kept = KeptTexts(path, "answers")
    kept.put([(b"key", "text")])
    assert kept.get([b"key", b"other"]) == {b"key": "text"}
    assert kept.note == f"{path} was damaged: set aside as answers.sqlite.damaged and replaced by a new one"
    kept.close()
    assert KeptTexts(path, "answers").get([b"key"]) == {b"key": "text"}


def test_an_unwritable_cache_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = KeptTexts(tmp_path / "file" / "answers.sqlite", "answers")
    kept.put([(b"key", "text")])
    assert kept.get([b"key"]) == {}
    assert "cannot be used" in str(kept.note)
    assert KeptTexts(None, "answers").get([b"key"]) == {}


def test_a_run_with_damaged_caches_reports_them_and_continues(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "verdicts.sqlite").write_bytes(os.urandom(4000))
    asked = ("benchmark=[code]", "benchmark.code.limit=3", "benchmark.code.solutions=reference")
    done = run(*asked, "agreement.enabled=false", f"artifacts_dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdicts.sqlite was damaged: set aside" in re.sub(r"\s+", " ", done.stdout)
    assert records(tmp_path)[0]["status"] == "ok"


ODD: list[tuple[tuple[str, ...], Any]] = [
    (("finished_at",), 3),
    (("memory_trace",), -1),
    (("load", "weight_disk_bytes"), {}),
    (("benchmarks", "0", "figures", "run_tokens"), 2**70),
    (("load", "weight_disk_bytes"), float("nan")),
    (("load", "weight_disk_bytes"), float("inf")),
    (("benchmarks", "0", "samples", "tpot_s"), "fast"),
    (("jobs",), []),
]


@pytest.mark.parametrize(("place", "value"), ODD, ids=lambda one: str(one)[:40])
def test_a_record_with_a_wrong_field_does_not_affect_the_others(
    tmp_path: Path, place: tuple[str, ...], value: Any
) -> None:
    folder = sweep(tmp_path)
    path = folder / "run-1-gptq" / "record.json"
    record = json.loads(path.read_text())
    part = record
    for key in place[:-1]:
        part = part[int(key)] if key.isdigit() else part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(record))
    for form in ("table", "md", "csv", "json", "html", "sqlite"):
        output = ["--output", str(tmp_path / f"out.{form}")]
        assert main([str(folder), "--format", form, *output]) in (0, 1), form
    shown = json.loads((tmp_path / "out.json").read_text())
    assert {row["runtime"] for row in shown} >= {"eager", "compile"}
    assert "NaN" not in (tmp_path / "out.json").read_text()
    connection = sqlite3.connect(tmp_path / "out.sqlite")
    assert connection.execute("SELECT count(*) FROM cells WHERE runtime = 'eager'").fetchone() == (1,)
    connection.close()
    assert "compile" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_output_works_in_a_locale_that_lacks_characters(tmp_path: Path, variables: dict[str, str], form: str) -> None:
    done = _report(sweep(tmp_path), form, variables=variables)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("into", "code"), [(">&-", 0), (">/dev/full", 1), ("| true", None)])
def test_output_works_without_standard_streams(tmp_path: Path, into: str, code: int | None) -> None:
    done = _report(sweep(tmp_path), "csv", into=into)
    assert code is None or done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    if into == ">/dev/full":
        assert done.stderr.startswith(b"error: No space left on device in the standard output")


def _report(
    folder: Path, form: str, into: str = "", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = f"{sys.executable} -m experiments.report {folder} --format {form} {into}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(
        command, shell=True, cwd=ROOT, env=environment | (variables or {}), capture_output=True, check=False
    )


def test_a_closed_pipe_gives_exit_code_141(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    def work() -> int:
        raise BrokenPipeError

    assert speaking(work) == 141


HARM = "=cmd|' /C calc'!A0 \x1b]0;TITLE\x07\x1b[31m <img src=x onerror=alert(1)> [link](javascript:alert(1))"


def test_control_characters_and_markup_in_records_are_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record("eager", status="error", reason=HARM)
    harmful = rows([result(replace(record, runtime=replace(record.runtime, name=HARM)))])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", clean(HARM))
    text = markdown(harmful, wide=True)
    assert "<img" not in text
    assert "](javascript" not in text
    assert "\x1b" not in text
    (row,) = csv.DictReader(io.StringIO(csv_text(harmful)))
    assert row["runtime"].startswith("'=cmd")
    assert json.loads(json_text(harmful))[0]["runtime"] == HARM  # data stays as it is
    folder = sweep(tmp_path / "runs")
    path = folder / "run-1-gptq" / "record.json"
    kept = json.loads(path.read_text())
    kept["status"], kept["reason"] = "error", HARM
    path.write_text(json.dumps(kept))
    assert main([str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_page_runs_only_its_own_scripts(tmp_path: Path) -> None:
    text = page(*read(sweep(tmp_path)))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    policy = html.unescape(policy)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "HASHES" not in text

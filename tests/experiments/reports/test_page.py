"""The page without a browser: what it says, what it must not contain, how large and how slow it may be."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec import structs
from msgspec.structs import replace
from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Load, Status, to_plain
from runtime_matrix.experiments.report import main
from runtime_matrix.experiments.reports.page import page, page_of_rows
from runtime_matrix.experiments.reports.reading import PAGE_FILE, read
from runtime_matrix.experiments.tasks.registry import every_task
from tests.experiments.recorded import ROUNDS, STEPS, changed_row, make_record, sweep, write


def data_of(text: str) -> JsonObject:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    content: JsonObject = json.loads(found.group(1))
    return content


class Static(HTMLParser):
    """What a reader without JavaScript sees: the cells of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self._inside = False

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.rows.append([])
        self._inside = tag in ("td", "th") or (self._inside and tag in ("span",))
        if tag in ("td", "th"):
            self.rows[-1].append("")

    @override
    def handle_data(self, text: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += text


def test_the_table_is_static_html(swept: Path) -> None:
    static = Static()
    static.feed(page(*read(swept)))
    start = next(
        index for index, row in enumerate(static.rows) if "TTFT p50 ms" in [" ".join(one.split()) for one in row]
    )
    lines = {row[0].split()[0]: row for row in static.rows[start + 1 :] if row and row[0].split()}
    assert list(lines)[:5] == ["eager", "onnxruntime", "compile", "gptq", "offload"]
    assert any("killed by <the kernel>" in cell for cell in lines["offload"])
    assert any("2.5" in cell and "(best)" in cell for cell in lines["onnxruntime"])
    assert static.rows[start][0].split() == ["runtime"]


def test_the_page_starts_with_the_verdict_and_its_bars(swept: Path, tmp_path: Path) -> None:
    text = page(*read(swept))
    assert '<p class="verdict-text">onnxruntime is 2.5 times as fast as eager [' in text
    bars = text.split('<table class="bars">')[1].split("</table>")[0]
    assert [line.split(">")[1].split("<")[0] for line in bars.split('<a href="#cell=')[1:]] == [
        *("onnxruntime", "gptq", "compile", "eager")
    ]
    assert bars.count("width:100.0%") == 1
    alone = page(*read(write(tmp_path / "alone", [make_record("eager")])))
    assert "Only the reference, eager, is measured" in alone
    assert "runtime=eager,onnxruntime" in alone
    assert '<table class="bars">' not in alone
    assert "decode speedup" not in alone.split('<table id="cells">')[1].split("</table>")[0]  # no value, no column


def test_claims_that_the_cells_measure_are_shown(swept: Path, tmp_path: Path) -> None:
    text = page(*read(swept))
    section = text.split('<section aria-labelledby="claims-title"')[1].split("</section>")[0]
    line = section.split("<td>torch.compile after its first call.")[1].split("</tr>")[0]
    assert "<td>1.1–1.3×</td><td>1.5 [" in line
    assert "<td>more</td><td>speedup_ratio compile over eager</td>" in line
    assert "unmeasured" not in section
    none = write(tmp_path / "none", [make_record("gptq", status="crash", reason="killed")])
    assert "claims-title" not in page(*read(none))


def test_commands_are_as_the_program_was_started(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_matrix.experiments.config.program._program", lambda: "runtime-matrix ")
    text = page(*read(swept))
    assert "<code>runtime-matrix advise --goal cost --usd-per-hour …</code>" in text
    assert "<code>runtime-matrix report --format html</code>" in text


def test_wrong_output_is_red_and_its_status_is_a_valid_class(tmp_path: Path) -> None:
    text = page(*read(sweep(tmp_path, has_garbage=True)))
    line = text.split('<tr id="row-run-1-t_garbage"')[1].split("</tr>")[0]
    assert line.startswith(' data-id="run-1-t_garbage" class=" failed alarm">')
    assert line.count('class="status wrong-output alarm">wrong output<') == 1
    assert 'class="status narrow wrong-output alarm">' in line
    assert "1,296 of 1,296 timed tokens are not the reference" in line
    assert "165" not in line.replace("&#39;", "")  # its times are nobody's to see
    data = data_of(text)
    assert data["cells"]["run-1-t_garbage"]["samples"] == {"ttft_s": [], "tpot_s": []}
    assert [check["verdict"] for check in data["cells"]["run-1-t_garbage"]["audit"]][:3] == ["fail", "pass", "pass"]
    assert data["kept"].keys() == {"run-1-eager", "run-1-onnxruntime", "run-1-compile", "run-1-gptq"}
    assert '<p class="alarm-text">not compared: t_garbage: wrong output: 1,296 of 1,296' in text


def test_the_front_of_a_device_is_by_its_memory(found: list[Row]) -> None:
    """The points, the limit of memory and the front are by the same peak."""
    peaks = {"eager": 100, "onnxruntime": 200, "compile": 50, "gptq": 300}  # compile needs more of the host
    measured = [row for row in found if row.status == "ok"]
    rows = [changed_row(row, peak_device_bytes=float(peaks[row.runtime] * 2**20)) for row in measured]
    data = data_of(page_of_rows(rows))
    assert data["peaks"] == {row.record_id: peaks[row.runtime] * 2**20 for row in rows}
    dominated = data["fronts"]["speedup_ratio|mcq_accuracy"]["dominated"]
    assert {name.removeprefix("run-1-"): bool(by) for name, by in dominated.items()} == {
        "eager": True,
        "onnxruntime": False,
        "compile": False,
        "gptq": True,
    }


def test_speeds_of_two_clocks_that_disagree_have_a_note_below_the_table(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("gptq")]
    text = page(*read(write(tmp_path, cells, {"gptq": 0.62}, cpu_speedups={"gptq": 1.09})))
    assert '<p class="fine">NOTE gptq: 0.62× by wall time, 1.09× by CPU time of one thread: ' in text


def test_distributions_are_interleaved_or_marked_alone(swept: Path, tmp_path: Path) -> None:
    cell = data_of(page(*read(swept)))["cells"]["run-1-compile"]
    assert (cell["source"], cell["launches"]) == ("interleaved", 4)
    assert cell["counts"] == {"ttft_s": 4 * ROUNDS, "tpot_s": 4 * ROUNDS * STEPS}
    assert cell["shape"] == {"batch": 1, "prompt_tokens": 64.0, "new_tokens": STEPS + 1}
    alone = data_of(page(*read(write(tmp_path / "alone", [make_record("eager")]))))["cells"]["run-1-eager"]
    assert alone["source"] == "alone"
    assert alone["counts"]["tpot_s"] == 310


def test_the_page_loads_no_external_resource(swept: Path) -> None:
    text = page(*read(swept))
    static = Static()
    static.feed(text)
    assert {address for address in static.addresses if not address.startswith("#")} == {"data:,"}
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)


def test_markup_in_records_is_escaped(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    write(tmp_path, [make_record("eager", status="error", reason=evil), make_record("compile", reason=evil)])
    text = page(*read(tmp_path))
    assert evil not in text
    assert text.count("</script>") == 2


def test_flipped_items_have_both_answers(swept: Path) -> None:
    cells = data_of(page(*read(swept)))["cells"]
    flipped = cells["run-1-gptq"]["flipped"]
    assert flipped["differing"] == {"multiple_choice": 12}
    assert len(flipped["items"]) == 12
    assert flipped["items"][0] == {
        "benchmark": "multiple_choice",
        "id": "q-20",
        "question": "What is <b>20</b>?",
        "wanted": "A. one",
        "reference": "A. one",
        "cell": "B. two",
        "reference_right": True,
        "cell_right": False,
    }
    assert cells["run-1-onnxruntime"]["flipped"] == {"differing": {}, "items": [], "reason": None}


def test_the_phases_add_up_to_the_wall_time(swept: Path) -> None:
    wall = dict(data_of(page(*read(swept)))["cells"]["run-1-eager"]["wall"])
    assert wall["reference's logits"] == 1.0
    assert wall["evaluate"] == 2.0
    assert sum(wall.values()) == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("build_phases", "expected"),
    [
        (None, {"import": 1.0, "load": 4.0, "build": 26.0}),  # by the names that engines had then
        ([], {"import": 3.0, "load": 28.0}),
        (["export", "quantize"], {"import": 3.0, "load": 4.0, "build": 24.0}),
    ],
)
def test_build_phases_are_those_of_the_engine(
    tmp_path: Path, build_phases: list[str] | None, expected: dict[str, float]
) -> None:
    phases_s = {"import": 2.0, "weights": 4.0, "export": 8.0, "quantize": 16.0}
    load = Load(phases_s=phases_s, dtype="float32", device="cpu", import_s=1.0, build_phases=build_phases)
    write(tmp_path, [structs.replace(make_record("eager"), load=load)])
    (cell,) = data_of(page(*read(tmp_path)))["cells"].values()
    assert {name: s for name, s in cell["wall"] if name in ("import", "load", "build")} == expected


def test_the_phase_of_a_benchmark_is_that_of_its_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scenario of another package is timed as our own are; answers are evaluated."""
    record = make_record("eager")
    other = [replace(entry, benchmark="prompt_cache") for entry in record.benchmarks if entry.benchmark == "latency"]
    tasks = {**every_task(), "prompt_cache": every_task()["latency"]}
    monkeypatch.setattr("runtime_matrix.experiments.reports.detail.every_task", lambda: tasks)
    write(tmp_path, [replace(record, benchmarks=other)])
    (cell,) = data_of(page(*read(tmp_path)))["cells"].values()
    assert {name: s for name, s in cell["wall"] if name in ("warm-up", "measure", "evaluate")} == {
        "warm-up": 1.0,
        "measure": 1.0,
    }


def test_without_a_copy_bandwidth_there_is_no_roofline(tmp_path: Path) -> None:
    record = make_record("eager")
    assert record.hardware_peak is not None
    write(tmp_path, [replace(record, hardware_peak=replace(record.hardware_peak, copy_bytes_per_s=None))])
    (cell,) = data_of(page(*read(tmp_path)))["cells"].values()
    assert cell["roofline"] == {"reason": "the copy bandwidth was not measured"}


def test_a_missing_items_file_is_the_reason(swept: Path) -> None:
    (swept / "run-1-gptq" / "items-multiple_choice.jsonl").unlink()
    flipped = data_of(page(*read(swept)))["cells"]["run-1-gptq"]["flipped"]
    assert flipped["items"] == []
    assert "FileNotFoundError" in flipped["reason"]


def test_left_out_records_are_listed(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = json.loads((swept / "run-1-gptq" / "record.json").read_text()) | {"schema_version": 0}
    torn = {key: value for key, value in older.items() if key != "runtime"} | {"schema_version": 1}
    strange = to_plain(make_record("eager")) | {"schema_version": 1}
    strange["benchmarks"][0]["samples"] = {"tpot_s": "many"}
    listed = to_plain(make_record("eager")) | {"config": {"hw": {}, "benchmark": ["latency"]}}
    refused = {"older": older, "foreign": {"a": 1}, "torn": torn, "strange": strange, "listed": listed}
    for name, content in refused.items():
        (swept / name).mkdir()
        (swept / name / "record.json").write_text(json.dumps(content))
    assert main([str(swept), "--format", "html"]) == 1
    said = capsys.readouterr().err
    for reason in ("older schema 0", "foreign", "missing required field `runtime`", "damaged: "):
        assert reason in said
        assert reason in (swept / PAGE_FILE).read_text()
    assert len(said.splitlines()) == 5


def test_a_folder_with_damaged_records_only_exits_with_1_and_an_empty_one_with_2(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text("{")
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize("status", ["unsupported", "interrupted"])
def test_a_folder_without_measured_cells_has_a_page(tmp_path: Path, status: Status) -> None:
    write(tmp_path, [make_record("eager", status=status, reason="no such device")])
    text = page(*read(tmp_path))
    assert "no such device" in text
    assert "What to run" not in text


def many(folder: Path, cells: int, runs: int) -> Path:
    """Write `runs` runs of `cells` cells each, a reference among them, all compared with it and with flipped items."""
    for run in range(runs):
        at = f"2026-{1 + run // 28:02}-{1 + run % 28:02}T10:00:00+00:00"
        made = [make_record("eager", run=f"r{run:03}", started_at=at)]
        for index in range(cells - 1):
            made.append(
                make_record(f"cell-{index}", run=f"r{run:03}", started_at=at, accuracy=0.5, commit=f"{run:040}")
            )
        write(folder, made, {f"cell-{index}": 1 + index / 20 for index in range(cells - 1)})
    return folder


def test_fifty_cells_stay_below_2_mb(tmp_path: Path) -> None:
    text = page(*read(many(tmp_path, cells=50, runs=1)))
    assert len(text.encode()) < 2_000_000
    assert sum(bool(cell["flipped"]["items"]) for cell in data_of(text)["cells"].values()) == 49


@pytest.mark.slow
def test_the_page_of_a_thousand_cells_takes_15_s_at_most(tmp_path: Path) -> None:
    folder = many(tmp_path, cells=1000, runs=1)
    start = time.process_time()  # CPU seconds: what else runs beside must not fail a test
    main([str(folder), "--format", "html"])
    assert time.process_time() - start < 15
    assert len(data_of((folder / PAGE_FILE).read_text())["rows"]) == 1000


def test_the_page_of_fifty_cells_measured_twenty_times_takes_5_s_at_most(tmp_path: Path) -> None:
    """The same files twenty times under other names: reading them is measured above."""
    results, _ = read(many(tmp_path, cells=50, runs=1))
    history = [_measured_on(day, result) for day in range(1, 21) for result in results]
    start = time.process_time()
    text = page(history)
    assert time.process_time() - start < 5
    assert len(data_of(text)["rows"]) == 50
    assert len(data_of(text)["trends"][0]["at"]) == 20


def _measured_on(day: int, result: Result) -> Result:
    record = replace(
        result.record,
        run_id=f"r{day}",
        record_id=f"r{day}-{result.record.runtime.name}",
        started_at=f"2026-11-{day:02}T10:00:00+00:00",
    )
    return dataclasses.replace(result, record=record)

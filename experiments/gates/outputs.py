"""The output files of a gate: text, Markdown, JUnit XML, arrays for github-action-benchmark, metrics for Bencher."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from xml.etree import ElementTree

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.measure import GateResult
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports.text import markdown_cell
from runtime_matrix.experiments.statistics.sequential import Verdict

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
_WAYS = (("smaller", "lower"), ("bigger", "higher"))
_ORDER = ("fail", "inconclusive", "pass")


@dataclass(frozen=True)
class GateReport:
    """What is written about a gate. `gate` is its limits as plain data, `details` what its measurements were."""

    name: str
    gate: JsonObject
    command: str
    verdict: Verdict
    findings: Sequence[LimitResult]
    was_repeated: bool = False
    details: Mapping[str, object] = field(default_factory=dict)


def report_of(judgement: GateResult, gate: GateConfig, command: str) -> GateReport:
    """Return the report on cells."""
    records = [measured.result.record.record_id for measured in judgement.measured]
    return GateReport(
        gate.name,
        gate.plain(),
        command,
        judgement.verdict,
        judgement.findings,
        judgement.was_repeated,
        {"records": records},
    )


def text_lines(report: GateReport) -> list[str]:
    """Return the verdict and one line per limit, failed ones first."""
    findings = _sorted(report.findings)
    width = max((len(finding.name) for finding in findings), default=0)
    several = len({finding.cell for finding in findings}) > 1
    lines = []
    for finding in findings:
        cell = f"{finding.cell}: " if several else ""
        lines.append(f"  {finding.verdict:12} {finding.name:{width}}  {cell}{finding.message}")
    return [headline(report), *lines]


def headline(report: GateReport) -> str:
    """Return one line with the gate's verdict and the number of limits by verdict."""
    tally = {verdict: sum(finding.verdict == verdict for finding in report.findings) for verdict in _ORDER}
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tally.items() if count) or "nothing was judged"
    return f"gate {report.name}: {report.verdict} ({counts})"


def write_outputs(report: GateReport, folder: Path) -> None:
    """Write all files into the folder. In a GitHub workflow, also append the summary to the step's summary.

    UserError if a file cannot be written.
    """
    files = {
        "summary.md": markdown(report),
        "junit.xml": junit(report),
        "bencher.json": _json(bencher(report.findings)),
        "verdict.json": _json(
            {
                "schema_version": 1,
                "gate": report.gate,
                "command": report.command,
                "verdict": report.verdict,
                "was_repeated": report.was_repeated,
                **report.details,
                "findings": [asdict(finding) for finding in report.findings],
            }
        ),
    }
    arrays = {f"github-benchmark-{way}.json": github_benchmark(report.findings, better) for way, better in _WAYS}
    files |= {name: _json(array) for name, array in arrays.items() if array}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in arrays.keys() - files.keys():
            (folder / name).unlink(missing_ok=True)  # github-action-benchmark rejects an empty array
        for name, text in files.items():
            write_atomic(folder / name, text)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(files["summary.md"])
    except OSError as error:
        raise UserError(f"output={folder} cannot be written: {error.strerror}") from error


def markdown(report: GateReport) -> str:
    """Return a Markdown summary for a pull request."""
    lines = [f"### {_MARKS[report.verdict]} {headline(report)}", ""]
    lines += ["| | cell | limit | measured | bound | what was found |", "| --- | --- | --- | ---: | ---: | --- |"]
    for finding in _sorted(report.findings):
        shown = [finding.cell, f"`{finding.name}`", _range(finding), _figure(finding.limit), finding.message]
        lines.append(" | ".join([f"| {_MARKS[finding.verdict]}", *map(markdown_cell, shown)]) + " |")
    return "\n".join([*lines, "", f"`{report.command}`", ""])


def junit(report: GateReport) -> str:
    """Return JUnit XML with one test case per limit. Inconclusive is an error, since it is not a pass."""
    tally = {verdict: sum(finding.verdict == verdict for finding in report.findings) for verdict in _ORDER}
    suite = ElementTree.Element(
        "testsuite",
        name=f"gate {report.name}",
        tests=str(len(report.findings)),
        failures=str(tally["fail"]),
        errors=str(tally["inconclusive"]),
        skipped="0",
    )
    for finding in report.findings:
        message = finding.message
        case = ElementTree.SubElement(suite, "testcase", classname=f"{report.name}.{finding.cell}", name=finding.name)
        if finding.verdict != "pass":
            kind = "failure" if finding.verdict == "fail" else "error"
            ElementTree.SubElement(case, kind, message=message, type=finding.verdict).text = message
        ElementTree.SubElement(case, "system-out").text = message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


class BenchmarkFigure(TypedDict):
    """One entry of an array for github-action-benchmark."""

    name: str
    unit: str
    value: float
    range: NotRequired[str]
    extra: str


def github_benchmark(findings: Sequence[LimitResult], better: str) -> list[BenchmarkFigure]:
    """Return the array of one direction: customSmallerIsBetter for `lower`, customBiggerIsBetter for `higher`."""
    figures = []
    for finding in findings:
        if finding.better != better or finding.value is None:
            continue
        figure = BenchmarkFigure(
            name=f"{finding.cell} {finding.name}", unit=finding.unit, value=finding.value, extra=finding.message
        )
        if finding.low is not None and finding.high is not None:
            figure["range"] = f"{finding.low:.4g} to {finding.high:.4g}"
        figures.append(figure)
    return figures


def bencher(findings: Sequence[LimitResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Return Bencher's metric format: benchmark -> measure -> value and bounds."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for finding in findings:
        if finding.value is None:
            continue
        metric = {"value": finding.value}
        if finding.low is not None and finding.high is not None:
            metric |= {"lower_value": finding.low, "upper_value": finding.high}
        benchmarks.setdefault(finding.cell, {})[finding.name] = metric
    return benchmarks


def _sorted(findings: Sequence[LimitResult]) -> list[LimitResult]:
    return sorted(findings, key=lambda finding: _ORDER.index(finding.verdict))


def _range(finding: LimitResult) -> str:
    if finding.value is None:
        return "n/a"
    has_bounds = finding.low is not None and finding.high is not None
    bounds = f" [{finding.low:.4g}, {finding.high:.4g}]" if has_bounds else ""
    return f"{_figure(finding.value)}{bounds} {finding.unit}"


def _figure(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"

"""The output files of a gate: text, Markdown, JUnit XML, arrays for github-action-benchmark, metrics for Bencher."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from xml.etree import ElementTree

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.measure import GateResult
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports.text import markdown_cell

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
_WAYS = (("smaller", "lower"), ("bigger", "higher"))
_ORDER = ("fail", "inconclusive", "pass")


def text_lines(judgement: GateResult, gate: GateConfig, has_baseline: bool) -> list[str]:
    """Return the verdict and one line per limit, failed ones first."""
    findings = _sorted(judgement.findings)
    width = max((len(finding.name) for finding in findings), default=0)
    several = len({finding.cell for finding in findings}) > 1
    lines = []
    for finding in findings:
        cell = f"{finding.cell}: " if several else ""
        lines.append(f"  {finding.verdict:12} {finding.name:{width}}  {cell}{finding.message}")
    if not has_baseline:
        lines.append("  not judged: gate.baseline, since no baseline=DIR is given")
    return [headline(judgement, gate), *lines]


def headline(judgement: GateResult, gate: GateConfig) -> str:
    """Return one line with the gate's verdict and the number of limits by verdict."""
    tally = {verdict: sum(finding.verdict == verdict for finding in judgement.findings) for verdict in _ORDER}
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tally.items() if count) or "nothing was judged"
    return f"gate {gate.name}: {judgement.verdict} ({counts})"


def write_outputs(judgement: GateResult, gate: GateConfig, folder: Path, command: str) -> None:
    """Write all files into the folder. In a GitHub workflow, also append the summary to the step's summary.

    UserError if a file cannot be written.
    """
    files = {
        "summary.md": markdown(judgement, gate, command),
        "junit.xml": junit(judgement, gate),
        "bencher.json": _json(bencher(judgement.findings)),
        "verdict.json": _json(
            {
                "schema_version": 1,
                "gate": gate.plain(),
                "command": command,
                "verdict": judgement.verdict,
                "was_repeated": judgement.was_repeated,
                "records": [measured.result.record.record_id for measured in judgement.measured],
                "findings": [asdict(finding) for finding in judgement.findings],
            }
        ),
    }
    arrays = {f"github-benchmark-{way}.json": github_benchmark(judgement.findings, better) for way, better in _WAYS}
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


def markdown(judgement: GateResult, gate: GateConfig, command: str) -> str:
    """Return a Markdown summary for a pull request."""
    lines = [f"### {_MARKS[judgement.verdict]} {headline(judgement, gate)}", ""]
    lines += ["| | cell | limit | measured | bound | what was found |", "| --- | --- | --- | ---: | ---: | --- |"]
    for finding in _sorted(judgement.findings):
        shown = [finding.cell, f"`{finding.name}`", _range(finding), _figure(finding.limit), finding.message]
        lines.append(" | ".join([f"| {_MARKS[finding.verdict]}", *map(markdown_cell, shown)]) + " |")
    return "\n".join([*lines, "", f"`{command}`", ""])


def junit(judgement: GateResult, gate: GateConfig) -> str:
    """Return JUnit XML with one test case per limit. Inconclusive is an error, since it is not a pass."""
    tally = {verdict: sum(finding.verdict == verdict for finding in judgement.findings) for verdict in _ORDER}
    suite = ElementTree.Element(
        "testsuite",
        name=f"gate {gate.name}",
        tests=str(len(judgement.findings)),
        failures=str(tally["fail"]),
        errors=str(tally["inconclusive"]),
        skipped="0",
    )
    for finding in judgement.findings:
        message = finding.message
        case = ElementTree.SubElement(suite, "testcase", classname=f"{gate.name}.{finding.cell}", name=finding.name)
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

"""What a gate leaves for people and CI systems: text, Markdown, JUnit XML, benchmark arrays, Bencher's metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.gates.findings import Finding
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.measure import Judgement
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.views.text import markdown_cell

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
_WAYS = (("smaller", "lower"), ("bigger", "higher"))
_ORDER = ("fail", "inconclusive", "pass")


def text_lines(judgement: Judgement, gate: GateConfig, has_baseline: bool) -> list[str]:
    """Return the verdict, and a line a limit: what failed first."""
    found = _sorted(judgement.findings)
    width = max((len(one.name) for one in found), default=0)
    several = len({one.cell for one in found}) > 1
    lines = []
    for one in found:
        cell = f"{one.cell}: " if several else ""
        lines.append(f"  {one.verdict:12} {one.name:{width}}  {cell}{one.message}")
    if not has_baseline:
        lines.append("  not judged: gate.baseline, since no baseline=DIR is given")
    return [headline(judgement, gate), *lines]


def headline(judgement: Judgement, gate: GateConfig) -> str:
    tally = {verdict: sum(one.verdict == verdict for one in judgement.findings) for verdict in _ORDER}
    said = ", ".join(f"{count} {verdict}" for verdict, count in tally.items() if count) or "nothing was judged"
    return f"gate {gate.name}: {judgement.verdict} ({said})"


def write_outputs(judgement: Judgement, gate: GateConfig, folder: Path, command: str) -> None:
    """Write all files into the folder; in a GitHub workflow append the summary to the step's.

    UserError where they cannot be written.
    """
    files = {
        "summary.md": markdown(judgement, gate, command),
        "junit.xml": junit(judgement, gate),
        "bencher.json": _json(bencher(judgement.findings)),
        "verdict.json": _json(
            {
                "schema_version": 1,
                "gate": asdict(gate),
                "command": command,
                "verdict": judgement.verdict,
                "was_repeated": judgement.was_repeated,
                "records": [one.record["record_id"] for one in judgement.measured],
                "findings": [asdict(one) for one in judgement.findings],
            }
        ),
    }
    arrays = {f"github-benchmark-{way}.json": github_benchmark(judgement.findings, better) for way, better in _WAYS}
    files |= {name: _json(array) for name, array in arrays.items() if array}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in arrays.keys() - files.keys():
            (folder / name).unlink(missing_ok=True)  # its reader takes an array without entries for an error
        for name, text in files.items():
            write_atomic(folder / name, text)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(files["summary.md"])
    except OSError as error:
        raise UserError(f"output={folder} cannot be written: {error.strerror}") from error


def markdown(judgement: Judgement, gate: GateConfig, command: str) -> str:
    """Return a summary for a pull request."""
    lines = [f"### {_MARKS[judgement.verdict]} {headline(judgement, gate)}", ""]
    lines += ["| | cell | limit | measured | bound | what was found |", "| --- | --- | --- | ---: | ---: | --- |"]
    for one in _sorted(judgement.findings):
        shown = [one.cell, f"`{one.name}`", _range(one), _figure(one.limit), one.message]
        lines.append(" | ".join([f"| {_MARKS[one.verdict]}", *map(markdown_cell, shown)]) + " |")
    return "\n".join([*lines, "", f"`{command}`", ""])


def junit(judgement: Judgement, gate: GateConfig) -> str:
    """Return JUnit's XML: a test case a limit; inconclusive is an error, since it did not pass."""
    tally = {verdict: sum(one.verdict == verdict for one in judgement.findings) for verdict in _ORDER}
    suite = ElementTree.Element(
        "testsuite",
        name=f"gate {gate.name}",
        tests=str(len(judgement.findings)),
        failures=str(tally["fail"]),
        errors=str(tally["inconclusive"]),
        skipped="0",
    )
    for one in judgement.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{gate.name}.{one.cell}", name=one.name)
        if one.verdict != "pass":
            kind = "failure" if one.verdict == "fail" else "error"
            ElementTree.SubElement(case, kind, message=one.message, type=one.verdict).text = one.message
        ElementTree.SubElement(case, "system-out").text = one.message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def github_benchmark(found: Sequence[Finding], better: str) -> list[dict[str, Any]]:
    """Return the array that github-action-benchmark takes of one direction (customSmallerIsBetter and its twin)."""
    return [
        {
            "name": f"{one.cell} {one.name}",
            "unit": one.unit,
            "value": one.value,
            **({"range": f"{one.low:.4g} to {one.high:.4g}"} if one.low is not None and one.high is not None else {}),
            "extra": one.message,
        }
        for one in found
        if one.better == better and one.value is not None
    ]


def bencher(found: Sequence[Finding]) -> dict[str, Any]:
    """Return Bencher's metric format: benchmark -> measure -> value and bounds."""
    made: dict[str, Any] = {}
    for one in found:
        if one.value is None:
            continue
        metric: dict[str, float] = {"value": one.value}
        if one.low is not None and one.high is not None:
            metric |= {"lower_value": one.low, "upper_value": one.high}
        made.setdefault(one.cell, {})[one.name] = metric
    return made


def _sorted(found: Sequence[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: _ORDER.index(one.verdict))


def _range(one: Finding) -> str:
    if one.value is None:
        return "n/a"
    bounds = f" [{one.low:.4g}, {one.high:.4g}]" if one.low is not None and one.high is not None else ""
    return f"{_figure(one.value)}{bounds} {one.unit}"


def _figure(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"

"""Axes: one that is added is read, judged, kept and listed, and nothing else has to change; the orders are fixed."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates import axes, registry
from runtime_matrix.experiments.gates.axes import outputs, speedup
from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.baseline import difference, read_baselines, write_baseline
from runtime_matrix.experiments.gates.findings import Measured
from runtime_matrix.experiments.gates.judge import findings
from runtime_matrix.experiments.gates.limits import GateConfig, check
from tests.experiments.gates import first_token
from tests.experiments.gates.judged import LIMITS, baseline, compared, found, gate, speed

HEAD = "name: mine\nconfirm: true\nalpha: 0.05\nindifferent: 0.02\nmust_find: 0.05\ninterim_launches: [6]\n"
OWN_MODULE = f"{axes.__name__}.first_token"


@pytest.fixture(params=["by a call", "by lying in the folder"])
def added(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the axis `first_token`, in either way; it is gone afterwards."""
    monkeypatch.setattr(registry, "_registered", [])
    if request.param == "by a call":
        registry.register(first_token.AXIS)
        return
    shutil.copy(first_token.__file__, tmp_path / "first_token.py")
    monkeypatch.setattr(axes, "__path__", [*axes.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, OWN_MODULE, first_token)  # so that the module of the copy does not outlive it
    del sys.modules[OWN_MODULE]


def read_gate(tmp_path: Path, limits: str) -> GateConfig:
    """Return the gate of a YAML text."""
    path = tmp_path / "gate.yaml"
    path.write_text(HEAD + limits)
    made: GateConfig = build(GateConfig, compose_gate(str(path), []), "gate")
    check(made)
    return made


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(("slower", "verdict"), [(0.02, "pass"), (0.3, "fail")])
def test_an_added_axis_is_judged(measured: Measured, tmp_path: Path, slower: float, verdict: str) -> None:
    mine = read_gate(tmp_path, "reference: {first_token: 0.1, outputs: []}\n")
    assert mine.names(has_baseline=True) == ["reference.first_token"]
    assert mine.benchmarks(has_baseline=False) == ["throughput"]
    assert mine.plain()["reference"]["first_token"] == 0.1
    (seen,) = findings(compared(measured, speed(slower)), mine, 0.99)
    assert (seen.name, seen.verdict) == ("reference.first_token", verdict)
    assert "ms of eager" in seen.message


@pytest.mark.usefixtures("added")
def test_a_gate_without_the_key_of_an_axis_does_not_judge_it(measured: Measured) -> None:
    assert "reference.first_token" not in found(measured)
    assert gate("reference.first_token=0.5").names(False)[-1] == "reference.first_token"
    with pytest.raises(UserError, match=r"gate\.reference\.first_tokn is not a known key; did you mean 'first_token'"):
        gate("reference.first_tokn=0.5")
    with pytest.raises(UserError, match=r"gate\.reference\.first_token must be at least 0"):
        gate("reference.first_token=-1")


@pytest.mark.usefixtures("added")
def test_the_part_of_an_added_axis_is_in_the_baseline_and_optional(tmp_path: Path) -> None:
    kept = structs.replace(baseline(), first_token=0.2)
    path = write_baseline(kept, tmp_path)
    content = json.loads(path.read_text())
    assert list(content)[-1] == "first_token"
    assert read_baselines(tmp_path) == {"mine": kept}
    del content["first_token"]
    path.write_text(json.dumps(content))
    assert difference(tmp_path, kept) == ["first token None → 0.2"]


def test_an_axis_that_is_not_added_is_unknown() -> None:
    with pytest.raises(UserError, match=r"gate\.reference\.first_token is not a known key"):
        gate("reference.first_token=0.5")


def test_two_axes_with_the_same_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two axes have the key reference\.speedup"):
        registry.register(Axis(limits=(Limits(part="reference", key="speedup", kind=float, default=1.0),)))
    assert speedup.AXIS in registry.axes()


def test_a_module_of_the_folder_without_an_axis_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unfinished_axis.py").write_text("")
    monkeypatch.setattr(axes, "__path__", [*axes.__path__, str(tmp_path)])
    with pytest.raises(TypeError, match="unfinished_axis has no AXIS"):
        registry.axes()
    monkeypatch.delitem(sys.modules, f"{axes.__name__}.unfinished_axis")


def test_missing_keys_limit_nothing_but_outputs_are_checked(tmp_path: Path) -> None:
    small = read_gate(tmp_path, "baseline: {counts: [tokens]}\n")
    checks = [f"reference.outputs.{name}" for name in ("timed_work", "replay", "agreement")]
    assert small.names(has_baseline=True) == [*checks, "baseline.counts.tokens"]
    assert small[outputs.SAME_TOP] == 0.75
    with pytest.raises(UserError, match="the gate limits nothing"):
        read_gate(tmp_path, "reference: {outputs: [], same_top: 0.5}\nbaseline: {all_cells: true}\n")


def test_the_orders_are_fixed(measured: Measured) -> None:
    kept = replace(measured, baseline=baseline())
    limits = LIMITS.replaced(outputs.REFERENCE, ("replay",))
    seen = list(found(kept, limits))
    groups = list(dict.fromkeys(name.rpartition(".")[0] for name in seen))
    assert groups == [
        *("reference.outputs", "reference.speedup", "reference.cpu_speedup", "baseline.speedup"),
        *("baseline.cpu_speedup", "reference.accuracy", "baseline.memory", "baseline.load", "baseline.accuracy"),
        "baseline.counts",
    ]
    assert list(limits.plain()["reference"]) == [
        *("speedup", "cpu_speedup", "outputs", "same_top", "memory", "accuracy", "serving", "serving_at_most")
    ]
    assert list(limits.plain()["baseline"]) == [
        *("speedup", "cpu_speedup", "memory", "load", "accuracy", "counts", "all_cells", "serving")
    ]
    assert [part.key for part in registry.kept_parts()] == [
        *("memory", "peaks", "load", "counts", "speed", "accuracy", "serving")
    ]

from __future__ import annotations

import random

from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.axes import speedup
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.validation.proof_figures import RULE, drawn


def test_the_rule_of_resampled_gates_is_that_of_gate_ci() -> None:
    gate: GateConfig = build(GateConfig, compose_gate("ci", []), "gate")
    limits = speedup.REFERENCE.launch_limits(gate[speedup.REFERENCE], gate, None, RULE.level)
    assert {limit.rule for limit in limits} == {RULE}


def test_resampled_gates_pass_without_a_slowdown_and_fail_with_one_of_5_percent() -> None:
    source = random.Random(0)
    launches = [source.gauss(0.0, 0.01) for _ in range(60)]
    assert drawn(launches, 300)["pass"] >= 0.99
    assert drawn([value + 0.049 for value in launches], 300)["fail_confirmed"] >= 0.98

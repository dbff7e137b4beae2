"""Gates as pytest items: `pytest --gate` and the fixture `gate`. The plugin imports this module on first use."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates.answers.gate import AnswerJudgement
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.functions import gate_answers, gate_command
from runtime_matrix.experiments.gates.measure import GateResult
from runtime_matrix.experiments.gates.programs.gate import ProgramJudgement
from runtime_matrix.experiments.gates.request import GateRequest, judge, prepare_words


class GateFile(pytest.File):
    """The YAML file of a gate. It is measured once, when the first of its limits runs."""

    @override
    def collect(self) -> Iterator[pytest.Item]:
        self.words = shlex.split(self.config.getoption("--gate-with"))
        self.request = prepare_words([*self.words, f"gate={self.path}"])
        self._judgement: GateResult | None = None
        for cell in self.request.candidates:
            for name in self.request.gate.names(self.request.baseline is not None):
                item = Limit.from_parent(self, name=f"{cell.label}: {name}")
                item.cell, item.limit = cell.label, name
                yield item

    def judgement(self) -> GateResult:
        """Return the gate's result, measured on the first call."""
        if self._judgement is None:
            self._judgement = _judge(self.request, self.config)
        return self._judgement


class Limit(pytest.Item):
    """The test of one limit of one cell. It is skipped if the figure is unknown on both sides."""

    cell: str
    limit: str

    @override
    def runtest(self) -> None:
        assert isinstance(self.parent, GateFile)
        cell_findings = [finding for finding in self.parent.judgement().findings if finding.cell == self.cell]
        own_findings = [finding for finding in cell_findings if finding.name in (self.limit, "cell")]
        if not own_findings:
            pytest.skip("this figure is unknown on both sides")
        for finding in own_findings:
            if finding.verdict != "pass":
                raise LimitBroken(f"{finding.verdict}: {finding.message}")

    @override
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, LimitBroken) else super().repr_failure(excinfo)

    @override
    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class LimitBroken(Exception):
    """A limit that failed or is inconclusive."""


class GateCheck:
    """The value of the fixture `gate`: a callable that judges a runtime."""

    def __init__(self, results: Path, config: pytest.Config):
        self._results, self._config = results, config

    def __call__(
        self,
        target: str | None = None,
        *,
        gate: str = "ci",
        against: str = "eager",
        baseline: str | Path | None = None,
        overrides: Sequence[str] = (),
        **options: Any,
    ) -> GateResult:
        """Measure and judge; fail the test with the limits that failed or are inconclusive.

        `target` is MODULE:CLASS of a runtime and `options` its constructor's; without it, `overrides` name a preset.
        A mistake in the options fails the test with one line.
        """
        words = [*overrides, f"gate={gate}", f"against={against}"]
        if target is not None:
            words += ["runtime=custom", f"runtime.engine.target={target}"]
            words += [f"+runtime.engine.{name}={value}" for name, value in options.items()]
        if baseline is not None:
            words.append(f"baseline={baseline}")
        if not any(word.startswith("results_dir=") for word in words):
            words.append(f"results_dir={self._results}")
        try:
            judgement = _judge(prepare_words(words), self._config)
        except UserError as error:
            pytest.fail(f"error: {error}", pytrace=False)
        _require_pass(judgement.findings)
        return judgement

    def command(self, command: str | Sequence[str], against: str | Sequence[str], **options: Any) -> ProgramJudgement:
        """Judge a program by another one; options and errors as in `runtime_matrix.gate_command`."""
        try:
            with _uncaptured(self._config):
                judgement = gate_command(command, against, **options)
        except UserError as error:
            pytest.fail(f"error: {error}", pytrace=False)
        _require_pass(judgement.findings)
        return judgement

    def answers(
        self, candidate: str | Path, reference: str | Path, *, margin: float, **options: Any
    ) -> AnswerJudgement:
        """Judge answers by a reference's; options and errors as in `runtime_matrix.gate_answers`."""
        try:
            judgement = gate_answers(candidate, reference, margin=margin, **options)
        except UserError as error:
            pytest.fail(f"error: {error}", pytrace=False)
        _require_pass(judgement.findings)
        return judgement


def _require_pass(findings: Sequence[LimitResult]) -> None:
    """Fail the test with the limits that failed or are inconclusive."""
    if findings and all(finding.verdict == "pass" for finding in findings):
        return
    broken = [
        f"{finding.verdict}: {finding.name}: {finding.message}" for finding in findings if finding.verdict != "pass"
    ]
    pytest.fail("\n".join(broken or ["inconclusive: nothing was judged"]), pytrace=False)


def _judge(request: GateRequest, config: pytest.Config) -> GateResult:
    """Measure and judge. Progress goes to the terminal, uncaptured, as a gate takes minutes."""
    with _uncaptured(config):
        return judge(request)


def _uncaptured(config: pytest.Config) -> AbstractContextManager[Any]:
    capture = config.pluginmanager.getplugin("capturemanager")
    return nullcontext() if capture is None else capture.global_and_fixture_disabled()

"""A client of the scripted judge, and questions for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.compose import read_option
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.judges import server
from runtime_matrix.experiments.judges.judge import Question
from runtime_matrix.experiments.judges.judging import Judging, Verdict, Work
from runtime_matrix.experiments.judges.kept_replies import KeptReplies
from runtime_matrix.experiments.judges.registry import JudgeChoice
from runtime_matrix.experiments.judges.server import ServerConfig
from runtime_matrix.experiments.judges.templates import read_template
from tests.conftest import ROOT


def config(url: str, /, **changes: Any) -> ServerConfig:
    """Return the preset's options with this address."""
    plain = read_option(ROOT / "conf" / "judge" / "server.yaml")
    choice: JudgeChoice = build(JudgeChoice, plain, "judge")
    options: ServerConfig = choice.options
    return replace(options, **{"url": url, "model": "scripted", "tries": 2, "timeout_s": 5.0, **changes})


def questions(count: int) -> list[Question]:
    """Return questions; every third answer is wrong, for the benchmark and for the scripted judge."""
    return [
        Question(f"q{at}", f"What is {at}?", "no" if at % 3 == 0 else f"it is {at}", (f"it is {at}",), at % 3 != 0)
        for at in range(count)
    ]


def judged(
    options: ServerConfig,
    asked: Sequence[Question],
    path: Path | None = None,
    *,
    rivals: Mapping[str, str] | None = None,
    resumes: bool = False,
) -> tuple[list[Verdict], Work]:
    """Return the verdicts on questions, and the work."""
    with server.JUDGE.opened(options, _no_model) as asker:
        kept = KeptReplies(path, {"judge": "server", **asker.identity})
        judging = Judging(asker, options, read_template(options.template), kept, resumes)
        verdicts = judging.verdicts(asked, rivals or {}, lambda done, total: None)
        kept.close()
    return verdicts, judging.work


def _no_model(runtime: str, model: str) -> Any:
    raise AssertionError("a served judge loads no model")

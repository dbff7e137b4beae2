"""Answer files with losses of known size, judged from file to verdict.

The files are samples as lm-evaluation-harness writes them: 1,319 items, as many as GSM8K has, 60 % of them right.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.gates.answers.gate import AnswerLimits, judge_answers
from runtime_matrix.experiments.validation.gate_proof_table import AnswerEvent

_ITEMS, _STEP = 1319, 200
_RIGHT = 0.6
MARGIN = 0.02


@dataclass(frozen=True)
class AnswerCase:
    """A true loss, as a share, and the share of answers that change besides, as often for the better as for the worse.

    `is_sequential`: the gate is repeated while items are added, and stops with its first verdict.
    """

    loss: float
    flips: float
    is_sequential: bool = False

    @property
    def name(self) -> str:
        """Return the case as the table shows it."""
        ways = "repeated while items are added" if self.is_sequential else "once"
        return f"a loss of {100 * self.loss:g} points, {100 * self.flips:g} % change besides, {ways}"


CASES = tuple(
    AnswerCase(loss, flips, is_sequential)
    for is_sequential in (False, True)
    for loss, flips in ((0.0, 0.0), (0.0, 0.05), (0.01, 0.05), (0.02, 0.05), (0.04, 0.05), (0.06, 0.05))
)


def answer_event(case: AnswerCase, seed: int) -> AnswerEvent:
    """Draw two files, judge them, and return the verdict with the number of items that it took."""
    source = random.Random(f"{case.name} {seed}")
    pairs = [_answers(source, case) for _ in range(_ITEMS)]
    counts = [*range(_STEP, _ITEMS, _STEP), _ITEMS] if case.is_sequential else [_ITEMS]
    limits = AnswerLimits(margin=MARGIN, is_sequential=case.is_sequential)
    with tempfile.TemporaryDirectory() as place:
        for count in counts:
            candidate, reference = (_write(Path(place) / name, pairs[:count], side) for side, name in enumerate("ab"))
            verdict = judge_answers(candidate, reference, limits).verdict
            if verdict != "inconclusive":
                break
    return AnswerEvent(case=case.name, loss=case.loss, verdict=verdict, items=count)


def _answers(source: random.Random, case: AnswerCase) -> tuple[float, float]:
    """Return the candidate's and the reference's score of one item."""
    drawn = source.random()
    if drawn < case.loss + case.flips / 2:
        return 0.0, 1.0
    if drawn < case.loss + case.flips:
        return 1.0, 0.0
    score = float(source.random() < _RIGHT)
    return score, score


def _write(folder: Path, pairs: Sequence[tuple[float, float]], side: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "samples_injected_2026-01-01T00-00-00.jsonl"
    lines = [
        json.dumps({"doc_id": number, "filter": "none", "metrics": ["acc"], "acc": scores[side]})
        for number, scores in enumerate(pairs)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

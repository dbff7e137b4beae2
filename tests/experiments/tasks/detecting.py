"""A bench whose runtime shows scores by a rule, and data of two classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from runtime_matrix.experiments.bundled.train import MODEL_DIR
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry, PhasePeak
from runtime_matrix.experiments.tasks.detection import TASK, DetectionConfig

HEADS_PER_LAYER, LAYERS = 2, 3
TEXT = Text(MODEL_DIR, bos_id=0, max_length=256)


class Skipped(Exception):
    """Raised in place of pytest's exception."""


def line(number: int, is_unsupported: bool, **more: Any) -> JsonObject:
    """Return a line of data: two sentences, of which the second may be unsupported."""
    second = "She paid nine coins." if is_unsupported else "She bought salt."
    labels = [{"start": 15, "end": 15 + len(second)}] if is_unsupported else []
    return {
        "id": f"r{number}",
        "source_id": f"s{number // 2}",
        "context": "Anna lives in Norden. Anna bought salt for two coins.",
        "prompt": "Passage: Anna lives in Norden. Anna bought salt for two coins.\n\nTell it again:",
        "response": f"Anna is there. {second}",
        "labels": labels,
        **more,
    }


def write_lines(path: Path, lines: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@cache
def defaults() -> JsonObject:
    found: JsonObject = compose(["benchmark=[detection]"])["benchmark"]["detection"]
    return found


def options(**given: Any) -> DetectionConfig:
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    config = build(DetectionConfig, {**defaults(), **plain}, "benchmark.detection")
    assert isinstance(config, DetectionConfig)
    return config


@dataclass
class RuleObserver:
    """Shows scores that depend on the tokens: head 1 attends less to the context where the answer is "nine"."""

    noise: float
    seen: list[ObserveRequest] = field(default_factory=list)

    def observe(self, requests: Iterable[ObserveRequest]) -> Iterator[Observed]:
        generator = np.random.default_rng(0)
        for request in requests:
            self.seen.append(request)
            response = TEXT.decode(request.ids[request.first_scored :])
            is_bad = "nine" in response
            shape = (request.tokens, HEADS_PER_LAYER * LAYERS)
            context_TH = generator.normal(0.5, 0.05, shape).astype(np.float32)
            context_TH[:, 1] = 0.5 - 0.2 * is_bad + self.noise * generator.normal()
            knowledge_TL = generator.uniform(0, 0.1, (request.tokens, LAYERS)).astype(np.float32)
            yield Observed(np.full(request.tokens, -1.0, dtype=np.float32), context_TH, knowledge_TL, HEADS_PER_LAYER)

    def figures(self) -> Figures:
        done = float(len(self.seen))
        return {"observed_responses": done, "computed_responses": done, "compute_s": done / 10}


@dataclass
class RuleBench:
    """The part of a bench that the benchmark uses."""

    noise: float = 0.1
    seed: int = 0
    items: list[JsonObject] = field(default_factory=list)
    used: list[RuleObserver] = field(default_factory=list)

    def require_text(self) -> Text:
        return TEXT

    def observer(self, requests: int) -> RuleObserver:
        self.used.append(RuleObserver(self.noise))
        return self.used[-1]

    @contextmanager
    def peak_memory(self, phase: str) -> Iterator[PhasePeak]:
        yield PhasePeak(1000, None)

    def skip(self, reason: str) -> None:
        raise Skipped(reason)

    def write_items(self, entry: OpenEntry, items: Iterable[Any]) -> None:
        self.items = json.loads(json.dumps(list(items)))


def run(bench: RuleBench, config: DetectionConfig) -> OpenEntry:
    entry = OpenEntry("detection")
    TASK.run(cast(Bench, bench), entry, config, "")
    return entry

"""The responses that the benchmark of detection's techniques observes, and what is measured on their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.detector.cross_fitting import halves
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.stored import read_scores
from runtime_matrix.experiments.evaluation.requests import ObserveRequest
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.detection_chunks import chunk_all
from runtime_matrix.experiments.tasks.detection_data import load
from runtime_matrix.experiments.tasks.detection_scores import all_scores, collected
from runtime_matrix.experiments.validation import score_calculation
from runtime_matrix.experiments.validation.detection_switches import ObservingSwitches, Sizes
from runtime_matrix.experiments.validation.tasks.detection_techniques import (
    DETECTION_SWITCHES,
    DetectionTechniquesConfig,
)
from runtime_matrix.experiments.validation.tasks.switched import Opened
from runtime_matrix.experiments.validation.technique_gains import table, technique_figures


@dataclass(frozen=True)
class Responses:
    """Requests in the order of the data, and the scores of their chunks."""

    requests: Sequence[ObserveRequest]
    scores: Scores


@contextmanager
def opened_work(bench: Bench, config: DetectionTechniquesConfig, path: Path) -> Iterator[Opened]:
    """Observe the responses, and yield the switches and the work on techniques. Skips for too few responses."""
    assert isinstance(bench, CellBench)  # a second runtime is loaded as the cell's own
    responses = _observed(bench, path, config.limit)
    sizes = Sizes(config.responses, config.long, config.long_tokens)
    with ExitStack() as opened:
        switches = [
            *ObservingSwitches(bench, responses.requests, sizes, opened).all(),
            *score_calculation.switches(responses.scores, bench.seed),
            score_calculation.grid_switch(responses.scores),
        ]
        by_name = {switch.name: switch for switch in switches}

        def techniques(entry: OpenEntry) -> Sequence[str]:
            if config.only is not None and config.only not in "techniques":
                return ()
            lines = _judged(entry, responses.scores, bench.seed, config.splits)
            if config.stored is not None:
                stored = Path(config.stored).expanduser()
                lines += ["", *_judged(entry, read_scores(stored), bench.seed, config.splits, stored.name)]
            return lines

        yield Opened([by_name[name] for name in DETECTION_SWITCHES], techniques)


def _judged(entry: OpenEntry, scores: Scores, seed: int, splits: int, stored: str | None = None) -> list[str]:
    """Judge the techniques; put the figures into the entry and return the table.

    Those of stored scores, which may be of another model, have other names, so that no row has them.
    """
    figures = technique_figures(scores, seed, splits)
    entry.figures |= {label if stored is None else f"{label} ({stored})": part for label, part in figures.items()}
    return table(figures, scores, "those of the switches" if stored is None else stored, splits)


def _observed(bench: Bench, path: Path, limit: int | None) -> Responses:
    """Return the responses that fit the model; skips the benchmark if halves of them lack a label."""
    chunked = chunk_all(bench.require_text(), load(path, None, None, limit).responses, None).chunked
    if not chunked:
        bench.skip("no response fits the model's context")
    requests = [response.request for response in chunked]
    scores = all_scores(chunked, collected(chunked, bench.observer(len(requests)).observe(requests)))
    try:
        halves(scores, bench.seed)
    except DetectionError as error:
        bench.skip(str(error))
    return Responses(requests, scores)

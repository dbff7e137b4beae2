"""The benchmark of the techniques of detection: switches on and off in turns, and gains on held-out responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.records.metric import Metric, Reader, hidden
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.records.techniques import is_technique_key, technique_key
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.detection_data import load
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA
from runtime_matrix.experiments.validation.tasks.switched import ENDS, Opened, Switched

DETECTION_SWITCHES = {  # name: key of the configuration, in the order of the table
    "cached scores": "responses.mode (off: computed)",
    "cached scores of five settings": "responses.mode, the first of five computes",
    "batched responses, short": "scoring.batch",
    "batched responses, long": "scoring.batch",
    "responses sorted by length": "scoring.sort_by_length",
    "attention by sdpa": "runtime.engine.attention (off: eager)",
    "half the tokens": "benchmark.detection.max_tokens; the scores differ",
    "outputs beside logits": "none: detection needs them (on costs)",
    "everything, detection": "cache of five settings, batches (off: neither)",
    "scores by NumPy": "none: always on (off: a loop)",
    "scores by NumPy, large": "none: always on (off: a loop)",
    "scores by Numba": "none: measured here only (off: a loop)",
    "scores by Numba, large": "none: measured here only (off: a loop)",
    "scores by Numba instead of NumPy": "none: measured here only",
    "scores by Numba instead of NumPy, large": "none: measured here only",
    "grid search by stored sums": "none: always on (off: a fit for each point)",
}


@dataclass(frozen=True, kw_only=True)
class DetectionTechniquesConfig:
    """The options of the benchmark of techniques."""

    data: str
    pairs: int = least(1)  # turns of on and off
    responses: int = least(1)  # observed per turn
    long: int = least(1)  # responses with a context of `long_tokens`
    long_tokens: int = least(16)
    splits: int = least(1)  # into halves, over which the gains of techniques are averaged
    stored: str | None = None  # stored scores, for a second table of techniques
    limit: int | None = least(1)  # responses
    only: str | None = None  # switches whose name contains this text


class DetectionTechniques(Switched[DetectionTechniquesConfig]):
    """Each switch of detection, on and off, and each technique beside the published setting."""

    name = "detection_techniques"
    title = "techniques of detection"
    data = "the data of `detection`; for the techniques also stored scores"
    measures = "the factor that each switch of detection gives, and each technique on held-out responses"
    position = 98
    Config = DetectionTechniquesConfig
    switches = DETECTION_SWITCHES
    heading = "What each switch and technique of detection gives"
    conditions = "The same responses on against off in turns in one process."

    @override
    def check_data(self, config: DetectionTechniquesConfig) -> None:
        from runtime_matrix.experiments.detector.scores import check_both_classes
        from runtime_matrix.experiments.detector.stored import read_scores

        load(self.path(config), None, None, config.limit)
        if config.stored is not None:
            check_both_classes(read_scores(Path(config.stored).expanduser()))

    @staticmethod
    def path(config: DetectionTechniquesConfig) -> Path:
        """Return the path of the user's responses, or of the bundled ones."""
        return BUNDLED_DATA / "detection.jsonl" if config.data == "bundled" else Path(config.data).expanduser()

    @override
    def options(self, config: DetectionTechniquesConfig) -> tuple[int, str | None, JsonObject]:
        names = ("data", "pairs", "responses", "long", "long_tokens", "splits", "stored", "limit")
        return config.pairs, config.only, {name: getattr(config, name) for name in names}

    @override
    @contextmanager
    def opened(self, bench: Bench, config: DetectionTechniquesConfig) -> Iterator[Opened]:
        from runtime_matrix.experiments.validation.detection_responses import opened_work

        with opened_work(bench, config, self.path(config)) as opened:
            yield opened

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        labels = [label for label in entry.figures if "ratio" in entry.table(label)]
        keys = [key for label in labels if is_technique_key(key := technique_key(label))]
        return [*super().further_keys(entry), *(f"{key}{end}" for key in keys for end in ENDS)]

    @override
    def further(self, key: str) -> Metric | None:
        for end in ENDS:
            if is_technique_key(key.removesuffix(end)):
                return hidden(key, _factor(key.removesuffix(end), f"ratio{end}"))
        return super().further(key)


def _factor(key: str, name: str) -> Reader:
    """Return a reader of a part of a technique's figures."""

    def read(entry: Entry) -> float | None:
        labels = [label for label in entry.figures if technique_key(label) == key]
        return entry.table(labels[0]).get(name) if labels else None

    return read


TASK = DetectionTechniques()

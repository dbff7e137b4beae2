"""The scores of the model without its adapter, in the adapter's row: what fine-tuning gained and lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from runtime_matrix.experiments.records.metric import Metric, error_key
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.tasks.registry import scores, task_metrics

_SUFFIX = "_without_adapter"


def _metric(metric: Metric) -> Metric:
    return Metric(
        key=metric.key + _SUFFIX,
        title=f"{metric.title}, base",
        group=metric.group,
        rank=5,
        display=metric.display,
        unit=metric.unit,
        about=f"{metric.title[:1].upper()}{metric.title[1:]} of the model without the adapter, in the same run.",
        benchmark=metric.benchmark,
    )


_SCORES = {score.metric for score in scores().values()}
METRICS = tuple(_metric(metric) for metric in task_metrics() if metric.key in _SCORES)


def with_bases(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the scores of their base, of the same run, runtime and dtype; None without an adapter."""
    bases = {_key(row, row.model_digest): row for row in rows if row.status == "ok"}
    return [_with_base(row, bases) for row in rows]


def _with_base(row: Row, bases: Mapping[tuple[str, ...], Row]) -> Row:
    base = None if row.base_digest is None else bases.get(_key(row, row.base_digest))
    before: dict[str, float | None] = {metric.key: None for metric in METRICS}
    for key in _SCORES if base is not None else ():
        assert base is not None
        before[key + _SUFFIX], before[error_key(key + _SUFFIX)] = base.get(key), base.get(error_key(key))
    return replace(row, figures={**row.figures, **before})


def _key(row: Row, digest: str) -> tuple[str, ...]:
    return row.run_id, digest, row.strategy, row.runtime, row.dtype

"""MLflow: one run per record, with the row's figures as metrics and its facts as parameters.

A run is created when its cell ends. Speedups and differences from the reference are added after the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.exporters.exporter import Exporter
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Record

_PARAMETERS = ("runtime", "engine", "weights", "placement", "dtype", "model", "hw", "threads", "status", "command")


@dataclass(frozen=True)
class MlflowConfig:
    """The options of the MLflow exporter."""

    mlflow: str | None = None  # URI of a tracking server, folder or database, as for MLflow itself


class Mlflow(Exporter[MlflowConfig]):
    """Exports to the experiment `runtime-matrix` of a tracking URI."""

    Config = MlflowConfig

    @classmethod
    @override
    def from_config(cls, config: MlflowConfig) -> Mlflow | None:
        return cls(config.mlflow) if config.mlflow is not None else None

    def __init__(self, uri: str):
        import mlflow

        self._mlflow = mlflow
        self._runs: dict[str, str] = {}
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("runtime-matrix")

    @override
    def record(self, record: Record) -> None:
        (row,) = rows([Result(record, Path(record.record_id))])
        with self._mlflow.start_run(run_name=record.record_id) as run:
            self._runs[record.record_id] = run.info.run_id
            values = row.flat()
            self._mlflow.log_params({key: str(values[key])[:500] for key in _PARAMETERS})
            self._mlflow.log_metrics(_numbers(row))

    @override
    def compared(self, results: Sequence[Result]) -> None:
        for row in rows(results, all=True):
            if row.record_id in self._runs:
                with self._mlflow.start_run(run_id=self._runs[row.record_id]):
                    self._mlflow.log_metrics(_numbers(row))
                    # The comparison can change the status; MLflow's parameters are immutable, tags are not.
                    self._mlflow.set_tags({"status": row.status, "reason": str(row.reason or "")[:500]})


def _numbers(row: Row) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in row.flat().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }

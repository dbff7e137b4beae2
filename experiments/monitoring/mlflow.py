"""MLflow: a run a record, with the row's numbers as metrics and what it is as parameters."""

from __future__ import annotations

from typing import Any

from experiments.records.matrix import rows

_PARAMETERS = ("runtime", "engine", "weights", "placement", "dtype", "model", "hw", "threads", "status", "command")


class Mlflow:
    """`uri` is a tracking server, or a folder or database as MLflow writes them."""

    def __init__(self, uri: str):
        import mlflow

        self._mlflow = mlflow
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("runtime-matrix")

    def start(self, total: int) -> None:
        pass

    def record(self, record: dict[str, Any]) -> None:
        row = rows([record])[0]
        numbers = {
            key: float(value)
            for key, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        with self._mlflow.start_run(run_name=record["record_id"]):
            self._mlflow.log_params({key: str(row[key])[:500] for key in _PARAMETERS})
            self._mlflow.log_metrics(numbers)

    def close(self) -> None:
        pass

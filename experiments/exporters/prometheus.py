"""Prometheus: latency histograms, tokens, cells by status and memory, as a text file and on the loopback interface."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from typing_extensions import override

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.exporters.exporter import Exporter
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import FAILED_TIMING, Entry, Record
from runtime_matrix.experiments.tasks.registry import every_task, scores
from runtime_matrix.experiments.tasks.task import Scenario

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LOOPBACK = ("127.0.0.1", "localhost")
_TIMEOUT_S = 5.0
_LABELS = ("runtime", "model", "hw")
# From a token of a small model to a prompt of a large one: a factor of 2 to 2.5 per bucket.
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class PrometheusConfig:
    """The options of the Prometheus exporter. Port 0 is a free port; None disables the endpoint or the file."""

    prometheus_file: str | None = None
    prometheus_port: int | None = least(0, most=65535, default=None)
    prometheus_linger_s: float = least(0, default=0.0)


class Prometheus(Exporter[PrometheusConfig]):
    """Writes `file` after each cell, for node_exporter's textfile collector, and serves /metrics on `port`.

    Speedups are known last, so the endpoint is served for another `linger_s` seconds. The file is kept.
    """

    Config = PrometheusConfig

    def __init__(self, file: str | None, port: int | None, linger_s: float = 0.0):
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._file, self._linger_s = file, linger_s
        self.registry = registry = CollectorRegistry()
        self._ttft = Histogram(
            "runtime_matrix_ttft_seconds", "Time to first token", _LABELS, buckets=_BUCKETS_S, registry=registry
        )
        self._tpot = Histogram(
            "runtime_matrix_tpot_seconds", "Time per output token", _LABELS, buckets=_BUCKETS_S, registry=registry
        )
        self._tokens = Counter("runtime_matrix_tokens", "Timed new tokens", _LABELS, registry=registry)
        self._cells = Counter(
            "runtime_matrix_cells",
            "Finished cells; counted again if their timed work was wrong",
            ("status",),
            registry=registry,
        )
        self._planned = Gauge("runtime_matrix_planned_cells", "Cells of the sweep", registry=registry)
        self._memory = Gauge("runtime_matrix_peak_memory_bytes", "Peak", (*_LABELS, "where"), registry=registry)
        self._throughput = Gauge(
            "runtime_matrix_offline_tokens_per_second", "Offline throughput", _LABELS, registry=registry
        )
        self._speedup = Gauge(
            "runtime_matrix_decode_speedup_ratio", "Interleaved, to the reference", _LABELS, registry=registry
        )
        self._accuracy = Gauge("runtime_matrix_score", "Scores of the cell", (*_LABELS, "score"), registry=registry)
        self._server: WSGIServer | None = None
        self.port: int | None = None
        if port is not None:
            self._server = _serve(port, registry)
            self.port = self._server.server_port

    @classmethod
    @override
    def check(cls, config: PrometheusConfig) -> None:
        if config.prometheus_linger_s and config.prometheus_port is None:
            raise UserError("monitoring.prometheus_linger_s would be ignored: add monitoring.prometheus_port=PORT")

    @classmethod
    @override
    def from_config(cls, config: PrometheusConfig) -> Prometheus | None:
        if config.prometheus_file is None and config.prometheus_port is None:
            return None
        return cls(config.prometheus_file, config.prometheus_port, config.prometheus_linger_s)

    @override
    def start(self, total: int) -> None:
        self._planned.set(total)
        self._write()

    @override
    def record(self, record: Record) -> None:
        labels = (record.runtime.name, record.model.name, record.hw.name)
        self._cells.labels(record.status).inc()
        for entry in record.benchmarks:
            if entry.status == "ok":
                self._note(entry, labels)
        self._write()

    @override
    def compared(self, results: Sequence[Result]) -> None:
        for row in rows(results, all=True):
            if row.status in FAILED_TIMING:
                self._withdraw(row)
            speedup = row["speedup_ratio"]
            if speedup is not None:
                self._speedup.labels(row.runtime, row.model, row.hw).set(speedup)
        self._write()

    def _withdraw(self, row: Row) -> None:
        """Count a finished cell again as failed, as its timed work was wrong, and remove its times."""
        self._cells.labels(row.status).inc()
        labels = (row.runtime, row.model, row.hw)
        for metric in (self._ttft, self._tpot, self._throughput, self._speedup):
            with suppress(KeyError):  # the cell has no such metric
                metric.remove(*labels)

    @override
    def close(self) -> None:
        if self._server is not None:
            time.sleep(self._linger_s)
            self._server.shutdown()
            self._server.server_close()

    def _note(self, entry: Entry, labels: tuple[str, str, str]) -> None:
        for histogram, name in ((self._ttft, "ttft_s"), (self._tpot, "tpot_s")):
            for seconds in entry.samples.get(name, ()):
                histogram.labels(*labels).observe(seconds)
        task = every_task().get(entry.benchmark)
        timed_tokens = task.timed_new_tokens(entry) if isinstance(task, Scenario) else 0
        if timed_tokens:
            self._tokens.labels(*labels).inc(timed_tokens)
        for where in ("host", "device"):
            peak = entry.figure(f"peak_{where}_bytes")
            if peak is not None:
                self._memory.labels(*labels, where).set(peak)
        if entry.benchmark == "throughput":
            self._throughput.labels(*labels).set(entry.figures["tokens_per_s"])
        for key, value in _score_of(entry).items():
            if value is not None:
                self._accuracy.labels(*labels, key).set(value)

    def _write(self) -> None:
        if self._file is not None:
            from prometheus_client import write_to_textfile

            Path(self._file).parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(self._file, self.registry)


def _score_of(entry: Entry) -> dict[str, float | None]:
    """Return the benchmark's score by the row's key; empty for a benchmark without a score."""
    task, score = every_task().get(entry.benchmark), scores().get(entry.benchmark)
    if task is None or score is None:
        return {}
    return {
        key: value for metric in task.metrics for key, value in metric.figures(entry).items() if key == score.metric
    }


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S  # of the socket: a silent connection must not block its thread

    @override
    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: stderr is for the sweep."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def _serve(port: int, registry: CollectorRegistry) -> WSGIServer:
    """Serve /metrics on loopback. Other Host headers are refused, against DNS rebinding by a page in a browser."""
    from prometheus_client import make_wsgi_app

    metrics = make_wsgi_app(registry)

    def answer(environment: Any, start_response: Any) -> Any:
        host = str(environment.get("HTTP_HOST", "")).rpartition(":")[0] or environment.get("HTTP_HOST", "")
        if host not in _LOOPBACK:
            start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
            return [b"use 127.0.0.1 or localhost\n"]
        return metrics(environment, start_response)

    server = make_server("127.0.0.1", port, answer, _Server, _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

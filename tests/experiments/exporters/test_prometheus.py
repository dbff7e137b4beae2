"""The metrics as Prometheus itself reads them: its checker, its server, and the dashboard's questions."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra monitoring")
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.exporters import prometheus
from runtime_matrix.experiments.exporters.prometheus import Prometheus
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import sweep

DASHBOARD = Path(__file__).parents[3] / "experiments" / "exporters" / "grafana.json"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Prometheus]:
    exporter = Prometheus(str(tmp_path / "metrics" / "matrix.prom"), 0)
    results = read(sweep(tmp_path / "runs"))[0]
    exporter.start(len(results))
    for result in results:
        exporter.record(result.record)
    exporter.compared(results)
    yield exporter
    exporter.close()


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("127.0.0.1", 200), ("evil.example", 421), ("", 421)])
def test_host_headers_other_than_loopback_are_refused(told: Prometheus, host: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", told.port, timeout=5)
    connection.putrequest("GET", "/metrics", skip_host=True)
    connection.putheader("Host", f"{host}:{told.port}" if host else "")
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_silent_connection_is_closed(told: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus._Handler, "timeout", 0.2)
    assert told.port is not None
    with socket.create_connection(("127.0.0.1", told.port), timeout=5) as silent:
        silent.sendall(b"GET /metrics")
        assert silent.recv(100) == b""


def test_the_text_file_is_complete(told: Prometheus, tmp_path: Path) -> None:
    text = (tmp_path / "metrics" / "matrix.prom").read_text()
    assert 'runtime_matrix_cells_total{status="ok"} 4.0' in text
    assert 'runtime_matrix_cells_total{status="out_of_memory"} 1.0' in text
    assert 'runtime_matrix_tpot_seconds_count{hw="auto",model="bundled",runtime="eager"} 310.0' in text
    assert 'runtime="eager",where="host"} 6.291456e+07' in text
    assert "runtime_matrix_planned_cells 5.0" in text
    assert re.search(r'decode_speedup_ratio\{hw="auto",model="bundled",runtime="onnxruntime"\} 2\.[45]', text)


def test_a_cell_whose_tokens_were_wrong_is_a_failure_and_has_no_times(tmp_path: Path) -> None:
    exporter = Prometheus(str(tmp_path / "matrix.prom"), None)
    results = read(sweep(tmp_path / "runs", has_garbage=True))[0]
    for result in results:
        exporter.record(result.record)
    assert 'tpot_seconds_count{hw="auto",model="bundled",runtime="t_garbage"}' in (tmp_path / "matrix.prom").read_text()
    exporter.compared(results)
    text = (tmp_path / "matrix.prom").read_text()
    assert 'runtime_matrix_cells_total{status="wrong output"} 1.0' in text
    assert not re.search(r'(tpot_seconds|ttft_seconds|tokens_per_second|speedup_ratio).*runtime="t_garbage"', text)
    assert 'tpot_seconds_count{hw="auto",model="bundled",runtime="eager"}' in text


def test_the_endpoint_is_on_loopback_only(told: Prometheus) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{told.port}/metrics", timeout=5) as answer:
        assert b"runtime_matrix_ttft_seconds_bucket" in answer.read()
    outside = socket.gethostbyname(socket.gethostname())
    if outside.startswith("127."):
        return  # this machine has no other address
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((outside, told.port or 0), timeout=2).close()


def test_the_endpoint_stays_until_the_last_values_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, read_then = Prometheus(None, 0, linger_s=15), list[tuple[float, bytes]]()

    def sleep(seconds: float) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=5) as answer:
            read_then.append((seconds, answer.read()))

    monkeypatch.setattr("runtime_matrix.experiments.exporters.prometheus.time.sleep", sleep)
    exporter.close()
    assert [seconds for seconds, _ in read_then] == [15]
    assert b"runtime_matrix_planned_cells" in read_then[0][1]


def test_prometheus_checker_finds_no_error(told: Prometheus, tmp_path: Path) -> None:
    checker = shutil.which("promtool")
    if checker is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    text = (tmp_path / "metrics" / "matrix.prom").read_text()
    done = subprocess.run([checker, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: matters of style
    assert "error" not in done.stderr.lower()


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_dashboard_uses_existing_metrics(told: Prometheus, tmp_path: Path) -> None:
    there = set(re.findall(r"^(runtime_matrix_\w+)", (tmp_path / "metrics" / "matrix.prom").read_text(), re.MULTILINE))
    asked = {name for expression in expressions() for name in re.findall(r"runtime_matrix_\w+", expression)}
    assert asked
    assert asked <= there


def test_a_real_server_scrapes_it_and_answers_the_dashboard(told: Prometheus, tmp_path: Path) -> None:
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("no Prometheus server here: apt-get install prometheus")
    targets = f"[{{targets: ['127.0.0.1:{told.port}']}}]"
    config = f"scrape_configs: [{{job_name: matrix, scrape_interval: 1s, static_configs: {targets}}}]\n"
    (tmp_path / "prometheus.yml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [server, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        assert wait_for(address, 'runtime_matrix_cells_total{status="ok"}') == [4.0], (tmp_path / "log").read_text()
        for expression in expressions():
            concrete = expression.replace("$runtime", ".*").replace("$model", ".*")
            assert wait_for(address, concrete), concrete
        (median,) = wait_for(
            address, 'histogram_quantile(0.5, sum by (le) (runtime_matrix_tpot_seconds_bucket{runtime="onnxruntime"}))'
        )
        assert 0.0005 < median < 0.002
    finally:
        process.terminate()
        process.wait(10)


def wait_for(address: str, expression: str) -> list[float]:
    """Return the values of a query once there are any, for half a minute at most."""
    question = urllib.parse.urlencode({"query": expression})
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/query?{question}", timeout=5) as answer:
                found: list[JsonObject] = json.load(answer)["data"]["result"]
        except OSError:
            found = []  # not up yet
        if found:
            return [float(one["value"][1]) for one in found]
        time.sleep(0.5)
    return []

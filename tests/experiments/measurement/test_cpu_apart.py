from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.measurement.cpu_apart import cpu_since, waited_s

BUSY_S = 0.1


def burn() -> None:
    end = time.thread_time() + BUSY_S
    while time.thread_time() < end:
        pass


def test_work_of_another_thread_is_the_engines() -> None:
    since = cpu_since("threads")
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    spent = since()
    assert spent.engine_s is not None
    assert spent.client_s is not None
    assert spent.engine_s >= BUSY_S * 0.9
    assert spent.client_s < BUSY_S / 2
    assert spent.client_waited_s is None  # threads of both sides are in this process


def test_work_of_this_thread_is_the_clients() -> None:
    since = cpu_since("threads")
    burn()
    spent = since()
    assert spent.client_s is not None
    assert spent.engine_s is not None
    assert spent.client_s >= BUSY_S * 0.9
    assert spent.engine_s < BUSY_S / 2


@pytest.mark.parametrize("where", ["children", "elsewhere"])
def test_work_of_a_child_is_the_engines_and_that_of_a_distant_one_unknown(where: str) -> None:
    code = "import sys, time\nsys.stdin.readline()\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:  # type: ignore[call-overload]
        since = cpu_since(where)  # type: ignore[arg-type]
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        spent = since()
        child.kill()
    assert spent.client_s is not None
    assert spent.client_s < 0.2
    if where == "elsewhere":
        assert spent.engine_s is None
    else:
        assert spent.engine_s is not None
        assert spent.engine_s > 0.15


def test_waiting_is_read_per_thread_and_unknown_where_the_kernel_does_not_tell(tmp_path: Path) -> None:
    for thread, text in (("1", "500 2000000000 7"), ("2", "1 250000000 1")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "3").mkdir()  # has just ended
    assert waited_s(tmp_path) == {"1": 2.0, "2": 0.25}
    assert waited_s(tmp_path / "3") is None
    assert waited_s(tmp_path / "none") is None

from __future__ import annotations

import subprocess
import sys

from runtime_matrix.experiments.measurement.processes import tree_cpu_s


def test_ended_grandchildren_of_a_living_child_count() -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    child = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\nprint(1, flush=True)\ninput()"
    before_s = tree_cpu_s()
    command = [sys.executable, "-c", child, busy]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert tree_cpu_s() - before_s > 0.4
        process.communicate("\n")

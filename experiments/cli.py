"""The console script `runtime-matrix COMMAND …`: the same commands as `python -m experiments.COMMAND …`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from runtime_matrix.experiments.errors import did_you_mean

_COMMANDS = {
    "run": "measure a cell or a sweep",
    "compare": "two runtimes: faster, smaller, the same answers?",
    "gate": "judge runtimes by limits, for CI",
    "calibrate": "what this machine can tell apart",
    "proof": "do the gates cry wolf, or sleep?",
    "cache": "what is kept of graphs, engines and quantized weights",
    "report": "the matrix of recorded cells: a page, tables, data",
    "advise": "the best measured cell for a goal, and what to try next",
}


def main() -> int:
    """Hand the rest of the command line to the command."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: runtime-matrix COMMAND …\n\n" + "\n".join(f"  {n:10} {what}" for n, what in _COMMANDS.items()))
        print("\nruntime-matrix COMMAND --help says more.")
        return 0
    name = sys.argv.pop(1)
    if name not in _COMMANDS:
        print(f"error: {name} is not a command{did_you_mean(name, _COMMANDS)}", file=sys.stderr)
        return 2
    command: Callable[[], int] = importlib.import_module(f"runtime_matrix.experiments.{name}").main
    return command()

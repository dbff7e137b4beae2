"""`python -m experiments.cache`: list and prune stored graphs, engines, quantized weights and reference outputs."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.runtimes.artifacts import Entry, entries, prune


def main(argv: Sequence[str] | None = None) -> int:
    """List the entries, after pruning if asked. Return 2 for a user's mistake."""
    options = _parser().parse_args(argv)
    return speaking(lambda: _cache(options))


def _cache(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: nothing was built yet, or it is not the run's artifacts_dir")
    if options.prune is not None:
        if options.prune < 0:
            raise UserError(f"--prune {options.prune} must be at least 0 GiB")
        removed = prune(folder, int(options.prune * 2**30))
        print(f"removed {len(removed)} entries, {_mib(removed)}")
    stored = entries(folder)
    for entry in stored:
        when = datetime.datetime.fromtimestamp(entry.used_at).strftime("%Y-%m-%d %H:%M")
        print(f"{entry.kind:9} {entry.folder.name[:12]}  {_mib([entry]):>12}  used {when}  {_made_from(entry)}")
    print(f"{len(stored)} entries, {_mib(stored)} in {folder}")
    return 0


def _mib(stored: Sequence[Entry]) -> str:
    return f"{sum(entry.size_bytes for entry in stored) / 2**20:,.1f} MiB"


def _made_from(entry: Entry) -> str:
    weights = entry.made_from.get("weights") or {}
    parts = [f"model {str(entry.made_from.get('model'))[:8]}", *(f"{key} {value}" for key, value in weights.items())]
    return ", ".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("cache"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "folder", nargs="?", default="results/runs/artifacts", help="the artifacts_dir of the runs (%(default)s)"
    )
    parser.add_argument(
        "--prune",
        type=float,
        metavar="GIB",
        help="remove the least recently used entries beyond this size; 0 removes all",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

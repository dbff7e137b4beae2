"""`python -m experiments.cache`: list what is kept of graphs, engines and quantized weights, and make it smaller."""

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
    """List or prune; 2 for a user's mistake."""
    asked = _parser().parse_args(argv)
    return speaking(lambda: _cache(asked))


def _cache(asked: argparse.Namespace) -> int:
    folder = Path(asked.folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: nothing was built yet, or artifacts_dir is another")
    if asked.prune is not None:
        if asked.prune < 0:
            raise UserError(f"--prune {asked.prune} must be at least 0 GiB")
        removed = prune(folder, int(asked.prune * 2**30))
        print(f"removed {len(removed)} entries, {_mib(removed)}")
    kept = entries(folder)
    for one in kept:
        when = datetime.datetime.fromtimestamp(one.used_at).strftime("%Y-%m-%d %H:%M")
        print(f"{one.kind:8} {one.folder.name[:12]}  {_mib([one]):>12}  used {when}  {_made_from(one)}")
    print(f"{len(kept)} entries, {_mib(kept)} in {folder}")
    return 0


def _mib(found: Sequence[Entry]) -> str:
    return f"{sum(one.size_bytes for one in found) / 2**20:,.1f} MiB"


def _made_from(one: Entry) -> str:
    weights = one.made_from.get("weights") or {}
    parts = [f"model {str(one.made_from.get('model'))[:8]}", *(f"{key} {value}" for key, value in weights.items())]
    return ", ".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("cache"), description=as_typed(__doc__ or ""))
    parser.add_argument("folder", nargs="?", default="results/runs/artifacts", help="artifacts_dir (%(default)s)")
    parser.add_argument("--prune", type=float, metavar="GIB", help="keep at most so much; 0 removes all")
    return parser


if __name__ == "__main__":
    sys.exit(main())

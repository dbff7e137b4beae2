"""`python -m experiments.reproduce RECORD`: measure a record again, and test whether its figures are reproduced.

RECORD is a record's folder, its record_id, or a published matrix.json with --cell. The cell and its reference are
measured with the record's configuration, interleaved. Speedups are compared by the 99 % interval of their difference
over both sets of launches, scores item by item, and peak memory by launches.

Exit code: 0 reproduced, or another machine, version or code, which is said first; 1 not reproduced; 2 a user's mistake,
such as a damaged record; 3 not measurable, or inconclusive.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cli.command import measuring
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line, recorded_command
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.records.published import published_file, published_rows
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.text import clean
from runtime_matrix.experiments.reproduction.claim import Claim, Places, claim_of_folder
from runtime_matrix.experiments.reproduction.published_claim import claim_of_row
from runtime_matrix.experiments.reproduction.reproducing import NotMeasured, Reproduction, reproduce

_CODES = {"reproduced": 0, "not reproduced": 1, "inconclusive": 3}


def main(argv: Sequence[str] | None = None) -> int:
    """Reproduce a record; the module's docstring has the exit codes."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    return measuring(lambda: _reproduce(options, recorded_command("reproduce", words)), "completed cells are recorded")


def _reproduce(options: argparse.Namespace, command: str) -> int:
    claim = _claim(options, command)
    print(clean(f"{claim.title}"))
    for line in claim.differences:
        print(clean(f"  other {line}" if claim.is_same_machine else f"  differs: {line}"))
    try:
        with Progress(2) as progress:
            found = reproduce(claim, options.launches, progress)
    except NotMeasured as error:
        print(clean(f"not measured: {error}"))
        return 3
    return _answer(claim, found)


def _answer(claim: Claim, found: Reproduction) -> int:
    for finding in found.findings:
        print(clean(f"  {finding.name:16} {finding.verdict}: {finding.text}"))
    print(clean(f"record: {found.result.folder}"))
    if not claim.differences:
        print(found.verdict)
        return _CODES[found.verdict]
    place = "other code or versions" if claim.is_same_machine else "other machine"
    refuted = [finding for finding in found.findings if finding.verdict == "not reproduced"]
    differing = ", ".join(f"{finding.change} in {finding.name}".strip() for finding in refuted)
    print(f"{place}: " + (f"differs by {differing}" if differing else f"{found.verdict} here too"))
    return 0


def _claim(options: argparse.Namespace, command: str) -> Claim:
    path, names = Path(options.record), options.benchmarks
    places = Places(Path(options.results).resolve(), names.split(",") if names else None)
    if path.name == "record.json" and path.is_file():
        path = path.parent
    folder = next((place for place in (path, places.results / path) if (place / "record.json").is_file()), None)
    if folder is not None:
        if options.cell is not None:
            raise UserError("--cell chooses a row of a matrix.json; RECORD is a single record")
        return claim_of_folder(folder, places, command)
    file = published_file(path)
    if file is None:
        raise UserError(
            f"{path} is neither a record's folder, nor a record_id in {options.results}, nor a published matrix.json"
        )
    return claim_of_row(file, published_rows(file, row_keys()), options.cell, places, command)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be a number of at least 2; found {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        command_line("reproduce"),
        description=as_typed(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("record", metavar="RECORD", help="a record's folder or record_id, or a published matrix.json")
    parser.add_argument("--cell", metavar="NAME", help="runtime or record_id of a row, if RECORD is a matrix")
    parser.add_argument(
        "--launches", type=_count, metavar="N", help="new launches (default: as many as recorded, from 4 to 10)"
    )
    parser.add_argument(
        "--results", default="results/runs", metavar="DIR", help="folder of the new records (%(default)s)"
    )
    parser.add_argument(
        "--benchmarks", metavar="NAMES", help="run only these of the record's benchmarks, as in latency,multiple_choice"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Reading the records of a folder for reports, and writing their page."""

from __future__ import annotations

import sys
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import readable
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.store import cell_folders, read_results, write_atomic
from runtime_matrix.experiments.reports.page import page

PAGE_FILE = "report.html"
NEWEST = 1000  # records that are read without --all
Results = list[Result]
Refused = list[tuple[str, str]]


def read(folder: Path, newest: int | None = None) -> tuple[Results, Refused]:
    """Return the records below a folder, oldest first, and the unreadable ones with the reason.

    `newest`: read at most so many, and print a line if there are more. UserError if there is no record.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; measure first: python -m experiments.run")
    folders = cell_folders(folder)
    if newest is not None and len(folders) > newest:
        print(f"the newest {newest:,} of {len(folders):,} records; --all reads all", file=sys.stderr)
        folders = folders[-newest:]
    read_all, unread = read_results(folder, folders)
    results, damaged = readable(read_all)
    refused = [(str(path), reason) for path, reason in unread] + damaged
    if not results and not refused:
        raise UserError(f"{folder} holds no record; measure first: python -m experiments.run")
    return results, refused


def write_page(results: Results, refused: Refused, path: Path, all_records: bool = False) -> None:
    """Write the page as one file without external resources. OSError if the file cannot be written."""
    write_atomic(path, page(results, refused, all_records))

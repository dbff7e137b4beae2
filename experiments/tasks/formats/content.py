"""What a path of a data set holds: a folder, JSON, or text. Formats tell it apart by what is in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject


class Content:
    """A file or a folder, read once and when needed. UserError if it cannot be read.

    `wanted` completes error messages: "give …". `fields` maps our field names to the data's.
    """

    def __init__(self, path: Path, wanted: str, fields: Mapping[str, str] | None = None) -> None:
        self.path, self.wanted, self.fields = path, wanted, dict(fields or {})

    @cached_property
    def is_folder(self) -> bool:
        """Return whether the path is a folder."""
        return self.path.is_dir()

    def files(self, pattern: str) -> list[Content]:
        """Return the folder's files that match, sorted by path; none for a file."""
        found = sorted(self.path.glob(pattern)) if self.is_folder else []
        return [Content(path, self.wanted, self.fields) for path in found if path.is_file()]

    @cached_property
    def text(self) -> str:
        """Return the text of the file."""
        return data_files.read_text(self.path, self.wanted)

    @cached_property
    def is_json(self) -> bool:
        """Return whether the file is JSON or JSON lines, by its name or its first character."""
        if self.is_folder:
            return False
        endings = [suffix for suffix in self.path.suffixes if suffix != ".gz"][-1:]
        return endings in ([".json"], [".jsonl"]) or (endings != [".csv"] and self.text.lstrip()[:1] in ("{", "["))

    @cached_property
    def value(self) -> Any:
        """Return the JSON value that the whole file is; None if it is none, as JSON lines are."""
        try:
            return json.loads(self.text) if self.is_json else None
        except (ValueError, RecursionError):
            return None

    def items(self) -> Iterator[tuple[str, JsonObject]]:
        """Yield (location, object) of JSON lines or of a JSON array, with the mapped fields."""
        return data_files.json_items(self.text, str(self.path), self.wanted, self.fields)

    @cached_property
    def first(self) -> JsonObject:
        """Return the first object of JSON lines or of a JSON array; empty if there is none."""
        if not self.is_json:
            return {}
        try:
            return next((item for _, item in data_files.json_items(self.text, "", "")), {})
        except UserError:
            return {}  # whoever reads the file says what is wrong

    @cached_property
    def header(self) -> list[str]:
        """Return the fields of a text file's first line, read as CSV; empty for JSON and folders."""
        if self.is_folder or self.is_json:
            return []
        try:
            return next(csv.reader(io.StringIO(self.text, newline="")), [])
        except csv.Error:
            return []

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yield (location, fields) of each line of CSV that is not empty."""
        reader = csv.reader(io.StringIO(self.text, newline=""))
        while True:
            where = f"{self.path}, line {reader.line_num + 1}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(f"{where}: not CSV: {error}; give {self.wanted}") from error
            if row:
                yield f"{self.path}, line {reader.line_num}", row

    def records(self) -> Iterator[tuple[str, JsonObject]]:
        """Yield (location, row by column name) of CSV with a header."""
        names = [name.strip() for name in self.header]
        for where, row in islice(self.rows(), 1, None):
            if len(row) != len(names):
                raise UserError(f"{where}: found {len(row)} fields, but the header has {len(names)}")
            yield where, dict(zip(names, row, strict=True))

"""Appends one line per cell to a text file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.exporters.exporter import Exporter
from runtime_matrix.experiments.records.schema import Record


@dataclass(frozen=True)
class LinesConfig:
    lines_file: str | None = None


class Lines(Exporter[LinesConfig]):
    Config = LinesConfig

    def __init__(self, path: Path):
        self._path = path

    @classmethod
    @override
    def from_config(cls, config: LinesConfig) -> Lines | None:
        return cls(Path(config.lines_file)) if config.lines_file is not None else None

    @override
    def record(self, record: Record) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{record.runtime.name} {record.status}\n")

"""The matrix as a Python object: typed rows, a pandas frame, Markdown, JSON, the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from typing_extensions import override

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.published import published_file, published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports import text
from runtime_matrix.experiments.reports.page import page_of_rows
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.schema import row_keys

if TYPE_CHECKING:
    import pandas as pd


class Matrix(Sequence[Row]):
    """One row per cell. `row["speedup_ratio"]` is a figure, `row.runtime` a fact; None is unknown."""

    def __init__(self, matrix_rows: Sequence[Row]):
        self._rows = list(matrix_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Matrix: ...

    @override
    def __getitem__(self, index: int | slice) -> Row | Matrix:
        return Matrix(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    @override
    def __len__(self) -> int:
        return len(self._rows)

    def row(self, runtime: str) -> Row:
        """Return the last row of a runtime; KeyError if it was not measured."""
        for row in reversed(self._rows):
            if row.runtime == runtime:
                return row
        raise KeyError(f"{runtime} is not one of {', '.join(dict.fromkeys(row.runtime for row in self._rows))}")

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame with one column per key of the published JSON; ImportError without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("a frame needs pandas: pip install 'runtime-matrix[frame]'") from error
        return pd.DataFrame([row.flat() for row in self._rows])

    def to_json(self) -> str:
        """Return the rows as the JSON of a published `matrix.json`."""
        return text.json_text(self._rows)

    def to_markdown(self, wide: bool = False) -> str:
        """Return a Markdown table and its notes; `wide` includes all columns."""
        return text.markdown(self._rows, wide)

    def write_page(self, path: str | Path) -> Path:
        """Write the page, one self-contained HTML file, and return its path."""
        write_atomic(Path(path), page_of_rows(self._rows))
        return Path(path)

    @override
    def __repr__(self) -> str:
        return self.to_markdown() if self._rows else "Matrix([])"

    def _repr_markdown_(self) -> str:  # called by notebooks
        return repr(self)


def read_matrix(folder: str | Path = "results/runs") -> Matrix:
    """Return the matrix of the latest record of each cell, or a published one (`matrix.json`).

    Raises UserError if there is no readable record.
    """
    path = Path(folder)
    file = published_file(path)
    if file is not None:
        return Matrix(published_rows(file, row_keys()))
    results, refused = read(path)
    if not results:
        raise UserError(f"none of the {len(refused)} records in {path} can be read; measure again")
    return Matrix(rows(results))

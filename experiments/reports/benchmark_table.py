"""The table of benchmarks in docs/benchmarks.md, from the registry. `make schema` writes it between its marks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from runtime_matrix.experiments.tasks.registry import benchmarks

_MARKS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)


def benchmark_table() -> str:
    """Return one row per benchmark, as Markdown."""
    rows = [f"| `{task.name}` | {task.data} | {task.measures} |" for task in benchmarks().values()]
    return "\n".join(["| benchmark | data it takes | measures |", "| --- | --- | --- |", *rows]) + "\n"


def with_table(text: str) -> str:
    """Return the document with the table between its marks. ValueError if it has no marks."""
    if not _MARKS.search(text):
        raise ValueError("no <!-- benchmarks --> … <!-- end of benchmarks -->")
    return _MARKS.sub(lambda match: f"{match[1]}{benchmark_table()}{match[2]}", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")

"""Writes the published matrix between the README's marks: `python docs/readme_matrix.py`, from a checkout's root."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RESULTS = "results/amd-epyc-2-cores"
MARKS = re.compile(r"(<!-- matrix -->\n).*?(<!-- end of matrix -->)", re.DOTALL)


def with_matrix(text: str) -> str:
    """Return a document with the matrix between its marks. ValueError for one without marks."""
    if not MARKS.search(text):
        raise ValueError("no <!-- matrix --> … <!-- end of matrix -->")
    command = [sys.executable, "-m", "experiments.report", RESULTS, "--format", "md"]
    matrix = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return MARKS.sub(lambda match: f"{match[1]}{matrix}{match[2]}", text)


if __name__ == "__main__":
    path = Path("README.md")
    path.write_text(with_matrix(path.read_text(encoding="utf-8")), encoding="utf-8")

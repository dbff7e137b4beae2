"""Recomputes the headline figures of a matrix from its raw launches, without any code of the project.

  python docs/recompute.py RESULTS_DIR               compare with what `report --format json` says of the same folder
  python docs/recompute.py RESULTS_DIR --keep FILE   and keep the launches in one gzipped file, to be published
  python docs/recompute.py FILE MATRIX.json          the same from a published file and its matrix

Speedup: the geometric mean over launches of each launch's median, over its rounds, of reference's time / cell's time.
Its interval: t over launches, at a level that the ratios of a run share (Bonferroni). Exit code 1 where they differ.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t

_CLOSE = 1e-6
_RATIOS = {"speedup_ratio": ("own", "decode", "wall_s"), "prefill_speedup_ratio": ("own", "prefill", "wall_s")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of records, or a file that --keep wrote")
    parser.add_argument("matrix", type=Path, nargs="?", help="rows to compare with; of a folder its own")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the launches there, gzipped")
    asked = parser.parse_args()
    launches = _from_folder(asked.source) if asked.source.is_dir() else _from_file(asked.source)
    if asked.keep:
        with gzip.GzipFile(asked.keep, "wb", mtime=0) as file:
            file.write(json.dumps(launches).encode())
    rows = json.loads(asked.matrix.read_text()) if asked.matrix else _report(asked.source)
    wrong = [line for row in rows for line in _differences(row, rows, launches)]
    print("\n".join(wrong) or f"{sum(bool(row['speedup_launches']) for row in rows)} rows: every headline is the same")
    return 1 if wrong else 0


def _from_folder(folder: Path) -> dict[str, Any]:
    """Return the raw launches by record: rounds' times alone."""
    found = {}
    for path in folder.glob("*/speed.json"):
        launches = json.loads(path.read_text())["launches"]
        found[path.parent.name] = [launch["own"] for launch in launches]
    return found


def _from_file(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def _report(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "experiments.report", str(folder), "--format", "json"]
    rows: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return rows


def _differences(row: dict[str, Any], rows: list[dict[str, Any]], launches: dict[str, Any]) -> list[str]:
    mine = launches.get(row["record_id"], [])
    if not row["speedup_launches"] or not mine:
        return []
    expected: dict[str, float] = {
        "ttft_s_p50": _geometric_mean([statistics.median(one["candidate"]["prefill"]["wall_s"]) for one in mine]),
        "tpot_s_p50": _geometric_mean([statistics.median(one["candidate"]["decode"]["wall_s"]) for one in mine]),
    }
    if not row["is_reference"]:
        family = [r for r in rows if r["run_id"] == row["run_id"] and r["speedup_reason"] != "not interleaved"]
        count = sum(not r["is_reference"] for r in family)
        for key, (_, phase, clock) in _RATIOS.items():
            logs = [_launch(one["reference"][phase][clock], one["candidate"][phase][clock]) for one in mine]
            reach = t.ppf(1 - 0.05 / count / 2, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
            middle = statistics.fmean(logs)
            ends = (middle, middle - reach, middle + reach)
            expected |= {f"{key}{end}": math.exp(log) for end, log in zip(("", "_low", "_high"), ends, strict=True)}
    return [
        f"{row['runtime']}: {key}: the matrix says {row[key]}, its launches {value:.6g}"
        for key, value in expected.items()
        if row[key] is None or abs(row[key] / value - 1) > _CLOSE
    ]


def _launch(reference: list[float], candidate: list[float]) -> float:
    return statistics.median(math.log(theirs / mine) for theirs, mine in zip(reference, candidate, strict=True))


def _geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


if __name__ == "__main__":
    sys.exit(main())

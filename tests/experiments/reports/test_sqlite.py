from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from runtime_matrix.experiments.report import main


def test_tables_can_be_queried(swept: Path) -> None:
    for _ in range(2):  # an earlier file is replaced
        assert main([str(swept), "--format", "sqlite"]) == 0
    with closing(sqlite3.connect(swept / "matrix.sqlite")) as database:
        fastest = database.execute("SELECT runtime FROM cells ORDER BY speedup_ratio DESC LIMIT 1").fetchone()
        counted = database.execute(
            "SELECT COUNT(*), MAX(value) FROM samples JOIN cells USING (record_id) "
            "WHERE runtime = 'eager' AND sample = 'tpot_s'"
        ).fetchone()
        failed = database.execute("SELECT reason, tpot_s_p50 FROM cells WHERE status <> 'ok'").fetchall()
    assert fastest == ("onnxruntime",)
    assert counted[0] == 310
    assert 0.002 < counted[1] < 0.0025
    assert failed == [("killed by <the kernel>", None)]

"""The confusion table of the audit's proof, from invented launches."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.records.audit import Rest, TimedAudit
from runtime_matrix.experiments.records.journal import Journal
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.validation.audit_lies import LIES
from runtime_matrix.experiments.validation.audit_table import JOURNAL, ProofLaunch, write_table
from tests.experiments import cheats, recorded


def _write(folder: Path, name: str, is_lie: bool, rest_s: float = 0.0) -> None:
    record = recorded.make_record(name)
    place = folder / "records" / record.record_id
    place.mkdir(parents=True, exist_ok=True)
    (place / "record.json").write_text(json.dumps(to_plain(record)))
    (launch,) = recorded.launches(1.5, 1)
    launch = replace(launch, audit=TimedAudit(rest=Rest(wall_s=0.5, cpu_s=rest_s)))
    line = ProofLaunch(
        name=name,
        is_lie=is_lie,
        record_id=record.record_id,
        token_rule="exact",
        launch=launch,
        failure=None,
        wall_s=1.0,
    )
    Journal(folder / JOURNAL).write("launch", **to_plain(line))


def test_a_missed_lie_and_a_false_alarm_are_counted(tmp_path: Path) -> None:
    for name in ("Miscounted", "Lazy", "Memo"):
        _write(tmp_path, name, is_lie=True, rest_s=0.1 if name == "Lazy" else 0.0)
    for number in range(3):
        _write(tmp_path, "eager", is_lie=False, rest_s=0.1 if number == 2 else 0.0)
    path, is_proved = write_table(tmp_path)
    text = path.read_text()
    assert not is_proved
    assert "| runtimes that lie | 2 | 1 |" in text
    assert "| honest launches | 1 | 2 |" in text
    assert "| Memo | remembers its outputs by all tokens so far | missed |" in text
    assert "| Miscounted | counts steps whose tokens were not produced | **token counts** |" in text


def test_each_lie_is_a_runtime_of_the_tests() -> None:
    assert len({lie.name for lie in LIES}) == len(LIES) >= 10
    assert all(hasattr(cheats, lie.engine) for lie in LIES if lie.engine is not None)

"""The confusion table of the audit's proof, derived from the recorded launches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.audit import audit
from runtime_matrix.experiments.records.audit import Audit, Check
from runtime_matrix.experiments.records.comparison import SPEED_SCHEMA_VERSION, Launch, Speed, TokenRule
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.records.schema import Record, typed
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.statistics.shares import exact_proportion
from runtime_matrix.experiments.validation.audit_lies import LIES, Lie

JOURNAL, TABLE = "launches.jsonl", "audit.md"


class ProofLaunch(Struct, frozen=True, kw_only=True):
    """A launch of one runtime; `launch` is None if its process failed."""

    name: str
    is_lie: bool
    record_id: str
    token_rule: TokenRule
    launch: Launch | None
    failure: str | None
    wall_s: float
    commit: str | None = None  # of the program


def read_launches(folder: Path) -> list[ProofLaunch]:
    """Return the recorded launches in their order. ValueError for a malformed line."""
    return [typed(event, ProofLaunch) for event in read_journal(folder / JOURNAL)]


def write_table(folder: Path) -> tuple[Path, bool]:
    """Write the table; return its path, and whether every lie was found and no honest launch failed."""
    lines = read_launches(folder)
    records = {line.record_id: _record(folder, line.record_id) for line in lines}
    lies = [(lie, list(_of_lie(lie, lines, records))) for lie in LIES]
    honest = _honest(lines, records)
    found = [failed for _, audits in lies if audits for failed in [any(one.verdict == "fail" for one in audits)]]
    false = sum(audited.verdict == "fail" for audits in honest.values() for audited in audits)
    commits = ", ".join(dict.fromkeys((line.commit or "unknown")[:7] for line in lines))
    text = "\n".join(
        [*_head(commits, found, false, honest), *_lie_rows(lies), *_honest_rows(honest), *_margins(honest)]
    )
    write_atomic(folder / TABLE, text + "\n")
    return folder / TABLE, all(found) and len(found) == len(LIES) and not false


def _record(folder: Path, record_id: str) -> Record:
    return read_record(json.loads((folder / "records" / record_id / "record.json").read_text(encoding="utf-8")))


def _speed(launches: Sequence[ProofLaunch]) -> Speed:
    first = launches[0]
    assert first.launch is not None
    return Speed(
        schema_version=SPEED_SCHEMA_VERSION,
        against="eager",
        options={},
        threads=first.launch.threads,
        token_rule=first.token_rule,
        launches=[line.launch for line in launches if line.launch is not None],
    )


def _of_lie(lie: Lie, lines: Sequence[ProofLaunch], records: dict[str, Record]) -> Iterator[Audit]:
    """Yield the audit of all launches of a lie."""
    own = [line for line in lines if line.is_lie and line.name == lie.name and line.launch is not None]
    if own:
        speed = _speed(own)
        altered = replace(speed, launches=[lie.alter(launch) for launch in speed.launches])
        yield audit(records[own[0].record_id], altered)


def _honest(lines: Sequence[ProofLaunch], records: dict[str, Record]) -> dict[str, list[Audit]]:
    """Return by runtime the audit of each launch, together with the launch before it."""
    own: dict[str, list[ProofLaunch]] = {}
    for line in lines:
        if not line.is_lie and line.launch is not None:
            own.setdefault(line.name, []).append(line)
    return {
        name: [
            audit(records[line.record_id], _speed(launches[max(0, number - 1) : number + 1]))
            for number, line in enumerate(launches)
        ]
        for name, launches in own.items()
    }


def _head(commits: str, found: Sequence[bool], false: int, honest: dict[str, list[Audit]]) -> list[str]:
    count = sum(map(len, honest.values()))
    rate = exact_proportion(false, count) if count else None
    bound = f", a rate of at most {100 * rate.high:.1f} % at 95 % confidence" if rate is not None else ""
    return [
        "# The audit: lies found, and honest launches",
        "",
        f"Measured at {commits}, {describe(environment())}. `python -m experiments.validation.audit_proof`",
        "",
        "| | audit fails | audit does not fail |",
        "| --- | ---: | ---: |",
        f"| runtimes that lie | {sum(found)} | {len(found) - sum(found)} |",
        f"| honest launches | {false} | {count - false} |",
        "",
        f"{sum(found)} of {len(found)} lies found; {false} of {count} honest launches failed{bound}. Each honest "
        "launch is a fresh process, and is audited together with the launch before it.",
        "",
    ]


def _lie_rows(lies: Sequence[tuple[Lie, Sequence[Audit]]]) -> list[str]:
    rows = ["| lie | what it does | found by | what was found |", "| --- | --- | --- | --- |"]
    for lie, audits in lies:
        failed = [check for audited in audits for check in audited.checks if check.verdict == "fail"]
        names = ", ".join(f"**{check.title}**" if check.name == lie.found_by else check.title for check in failed)
        texts = next((check.found for check in failed if check.name == lie.found_by), None) or "; ".join(
            check.found for check in failed
        )
        rows.append(f"| {lie.name} | {lie.what} | {names or ('missed' if audits else 'not run')} | {texts} |")
    return [*rows, ""]


def _honest_rows(honest: dict[str, list[Audit]]) -> list[str]:
    rows = ["| honest runtime | launches | failed | not checked |", "| --- | ---: | ---: | --- |"]
    for name, audits in honest.items():
        failed = sum(audited.verdict == "fail" for audited in audits)
        unchecked = {check.title for check in audits[-1].checks if check.verdict == "not_checked"}
        rows.append(f"| {name} | {len(audits)} | {failed} | {', '.join(sorted(unchecked)) or 'nothing'} |")
    return [*rows, ""]


def _margins(honest: dict[str, list[Audit]]) -> list[str]:
    """Return how far the honest launches stay from each limit."""
    checks = [check for audits in honest.values() for audited in audits for check in audited.checks]
    rows = ["| figure of an honest launch | median | worst | limit |", "| --- | ---: | ---: | ---: |"]
    for name, key, title, limit, is_low_bad in (
        ("timed_answers", "probe_nats", "probe, timed against scored process, nats", "1e-3 in float32", False),
        ("repeated_prompts", "ratio", "repeated prompt over a new one, the largest ratio of two launches", "0.5", True),
        ("repeated_prompts", "prefill_ratio", "its prefill", "0.5", True),
        ("row_order", "ratio", "permuted rows, share of the difference of two rows", "0.1", False),
        ("threads", "cpu_per_wall", "CPU time over wall time", "1.1 per thread", False),
        ("after_clock", "rest_cpu_s", "CPU time after the last round, s", "0.01 per launch", False),
    ):
        values = _values(checks, name, key)
        if values:
            worst = min(values) if is_low_bad else max(values)
            rows.append(f"| {title} | {median(values):.2g} | {worst:.2g} | {limit} |")
    return rows


def _values(checks: Sequence[Check], name: str, key: str) -> list[float]:
    return [check.figures[key] for check in checks if check.name == name and key in check.figures]

"""The table of the proof of gates over programs and answers, and the goals that its figures miss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from msgspec import Struct

from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.records.schema import typed
from runtime_matrix.experiments.statistics.shares import exact_proportion

JOURNAL = "journal.jsonl"
MARGIN_POINTS = 2.0
# What a gate must find, and what it must pass.
_MUST_FAIL = (
    "10 % more computation",
    "10 % more time asleep",
    "10 % more memory",
    "a spread of 30 % around the same centre",
    "three runs in ten take 1.7 times as long",
    "10 % more computation, builds vary by 2 %",
)
_MOST_FALSE, _LEAST_FOUND, _ALPHA = 0.005, 0.9, 0.05


class CommandEvent(Struct, frozen=True, kw_only=True, tag_field="event", tag="command"):
    """One gate over two programs, from start to verdict; `failed_first`: the limits that failed before repetition."""

    case: str
    load: str
    verdict: str
    failed: list[str]
    failed_first: list[str]
    inconclusive: list[str]
    turns: int
    seconds: float
    load_1min: float
    at: str
    commit: str | None = None


class AnswerEvent(Struct, frozen=True, kw_only=True, tag_field="event", tag="answers"):
    """One gate over two answer files; `items`: how many it took."""

    case: str
    loss: float
    verdict: str
    items: int


Event = CommandEvent | AnswerEvent


def events(folder: Path) -> list[Event]:
    """Return the events of the journal in their order. ValueError for a malformed line."""
    path = folder / JOURNAL
    return typed(read_journal(path), list[Event]) if path.exists() else []


def markdown(proof: Sequence[Event]) -> tuple[str, list[str]]:
    """Return the tables, and the goals that were missed."""
    commands = [event for event in proof if isinstance(event, CommandEvent)]
    answers = [event for event in proof if isinstance(event, AnswerEvent)]
    missed = [*_missed_commands(commands), *_missed_answers(answers)]
    machine = environment()
    lines = [
        "# How often are gates over programs and answers wrong?",
        "",
        f"{machine.processor}, {machine.cores} cores; `python -m experiments.validation.gate_proof`.",
        *(_command_lines(commands) if commands else []),
        *(_answer_lines(answers) if answers else []),
        "",
        "Missed: " + "; ".join(missed) if missed else "Every goal is met.",
    ]
    return "\n".join(lines) + "\n", missed


def _command_lines(commands: Sequence[CommandEvent]) -> Iterator[str]:
    days = sorted({event.at[:10] for event in commands})
    commits = sorted({(event.commit or "unknown")[:7] for event in commands})
    yield from (
        "",
        "## `gate --command`: a program of some 50 ms against itself",
        "",
        "Limits on wall time, CPU time and memory, on the centre (2 % does not matter, 5 % does) and on the slow tail "
        "(10 %, 25 %). A fail is measured again, after new builds where builds vary. "
        "*As found*: nothing was added to the load that the machine had. *Loaded*: every core is busy with another "
        f"program. Measured on {', '.join(days)}, commits {', '.join(commits)}.",
        "",
        "| load | injected | gates | failed before repetition | fail [95 %] | pass | inconclusive | limits that failed "
        "| turns | s | load, 1 min |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    )
    for load, case in dict.fromkeys((event.load, event.case) for event in commands):
        group = [event for event in commands if (event.load, event.case) == (load, case)]
        limits = [name for event in group for name in event.failed]
        named = ", ".join(f"{name} {limits.count(name)}" for name in dict.fromkeys(limits))
        yield (
            f"| {load} | {case} | {len(group)} | {sum(bool(event.failed_first) for event in group)} | "
            f"{_verdicts([event.verdict for event in group])} | {named} | {mean(event.turns for event in group):.1f} | "
            f"{mean(event.seconds for event in group):.1f} | {mean(event.load_1min for event in group):.1f} |"
        )


def _answer_lines(answers: Sequence[AnswerEvent]) -> Iterator[str]:
    yield from (
        "",
        f"## `gate --answers`: 1,319 items, margin {MARGIN_POINTS:g} points",
        "",
        "Each gate reads two files of samples. *Repeated* gates use `--sequential` and run after each 200 items, until "
        "the first verdict.",
        "",
        "| injected | gates | fail [95 %] | pass | inconclusive | items used |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    )
    for case in dict.fromkeys(event.case for event in answers):
        group = [event for event in answers if event.case == case]
        verdicts = _verdicts([event.verdict for event in group])
        yield f"| {case} | {len(group)} | {verdicts} | {mean(event.items for event in group):,.0f} |"


def _verdicts(verdicts: Sequence[str]) -> str:
    fails = verdicts.count("fail")
    bounds = exact_proportion(fails, len(verdicts))
    return (
        f"{fails} [{100 * bounds.low:.1f} %, {100 * bounds.high:.1f} %] | {verdicts.count('pass')} | "
        f"{verdicts.count('inconclusive')}"
    )


def _missed_commands(commands: Sequence[CommandEvent]) -> Iterator[str]:
    for load, case in dict.fromkeys((event.load, event.case) for event in commands):
        group = [event.verdict for event in commands if (event.load, event.case) == (load, case)]
        fails = group.count("fail") / len(group)
        if case in _MUST_FAIL and load == "as found" and fails < _LEAST_FOUND:
            yield f"{case}: found in {100 * fails:.0f} %, at least {100 * _LEAST_FOUND:.0f} %"
        if case not in _MUST_FAIL and group.count("fail") > max(1, _MOST_FALSE * len(group)):
            yield f"{case}, {load}: {100 * fails:.1f} % failed, at most {100 * _MOST_FALSE:g} %"


def _missed_answers(answers: Sequence[AnswerEvent]) -> Iterator[str]:
    """Yield the cases whose error rate is above 5 % by more than chance; at the margin, both verdicts are wrong."""
    margin = MARGIN_POINTS / 100
    for case in dict.fromkeys(event.case for event in answers):
        group = [event for event in answers if event.case == case]
        wrong = [
            verdict
            for verdict, is_wrong in (("pass", group[0].loss >= margin), ("fail", group[0].loss <= margin))
            if is_wrong
        ]
        for verdict in wrong:
            count = sum(event.verdict == verdict for event in group)
            if exact_proportion(count, len(group)).low > _ALPHA:
                yield f"{case}: {count} of {len(group)} {verdict}"

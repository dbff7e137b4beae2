"""What the verdicts of programs amount to: items, and pass@k with standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems.loading import Problem
from runtime_matrix.experiments.sandbox.program import Verdict
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.statistics.pass_at_k import pass_at_k


@dataclass(frozen=True)
class Item:
    """One line of the items file: a completion and its verdict."""

    id: str  # of the problem
    sample: int
    prompt: str
    text: str
    ids: tuple[int, ...] | None  # tokens of the text; None for a given solution
    status: str  # of the tests, or of the base tests where there are added ones
    reason: str  # why it failed, with the first input whose output is wrong where tests are inputs
    is_right: bool
    checks: int | None  # parts of the test; None with early stop
    checks_passed: int | None
    plus_status: str | None  # of base and added tests together; None without added tests
    is_right_plus: bool | None


@dataclass(frozen=True)
class PassScore:
    """pass@k over all problems."""

    pass_at: dict[int, float]  # k -> 0 to 1
    by_problem: dict[int, list[float]]  # k -> one estimate per problem
    items: int


def items(
    problems: Sequence[Problem],
    completions: Sequence[Sequence[str]],
    ids: Mapping[tuple[str, int], tuple[int, ...]],
    verdicts: Sequence[Sequence[Verdict]],
) -> Iterator[Item]:
    """Yield an item per problem and completion."""
    for problem, texts, judged in zip(problems, completions, verdicts, strict=True):
        for sample, (text, verdict) in enumerate(zip(texts, judged, strict=True)):
            yield Item(
                id=problem.id,
                sample=sample,
                prompt=problem.prompt,
                text=text,
                ids=ids.get((problem.id, sample)),
                status=verdict.base_status or verdict.status,
                reason=verdict.reason,
                is_right=verdict.passed_base,
                checks=verdict.checks,
                checks_passed=verdict.checks_passed,
                plus_status=verdict.status if verdict.base_status is not None else None,
                is_right_plus=verdict.passed if verdict.base_status is not None else None,
            )


def total_cpu_s(verdicts: Sequence[Sequence[Verdict]]) -> float | None:
    """Return the CPU time of all programs; None if that of any is unknown."""
    times = [verdict.cpu_s for group in verdicts for verdict in group]
    known_times = [seconds for seconds in times if seconds is not None]
    return sum(known_times) if len(known_times) == len(times) else None


def summarise(passed: Sequence[tuple[int, int]], ks: Sequence[int]) -> PassScore:
    """Return pass@k for each k from (samples, passed) per problem."""
    by_problem = {k: [pass_at_k(samples, right, k) for samples, right in passed] for k in ks}
    means = {k: sum(values) / len(values) for k, values in by_problem.items()}
    return PassScore(means, by_problem, len(passed))


def pass_figures(verdicts: Sequence[Sequence[Verdict]], ks: Sequence[int]) -> JsonObject:
    """Return pass@k of the base tests for each k, and beside it that of base and added tests where there are some."""
    figures = _figures("pass_at", [[verdict.passed_base for verdict in group] for group in verdicts], ks)
    if any(verdict.base_status is not None for group in verdicts for verdict in group):
        figures |= _figures("plus_pass_at", [[verdict.passed for verdict in group] for group in verdicts], ks)
    return {**figures, "items": len(verdicts)}


def _figures(name: str, passed: Sequence[Sequence[bool]], ks: Sequence[int]) -> JsonObject:
    result = summarise([(len(group), sum(group)) for group in passed], ks)
    errors = {f"{name}_{k}_standard_error": standard_error(result.by_problem[k]) for k in ks}
    return {**{f"{name}_{k}": result.pass_at[k] for k in ks}, **errors}

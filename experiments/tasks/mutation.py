"""Mutation score: the share of wrong programs that a suite's tests notice. Measures the suite, not a model.

Mutants of the reference solutions run with the problem's tests. Those that no test notices and that give the
reference's outputs for all further inputs count as equivalent, and are left out. The argument for added tests is that
of Liu et al. 2023 (arXiv 2305.01210), the measure that of DeMillo et al. 1978.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.problems.loading import Problem, load
from runtime_matrix.experiments.records.metric import Metric, figure, number, with_error
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.code_scores import total_cpu_s
from runtime_matrix.experiments.tasks.judging import Judge
from runtime_matrix.experiments.tasks.mutants import Mutant, mutants
from runtime_matrix.experiments.tasks.problem_inputs import further_inputs
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.strategy_driver import Call
from runtime_matrix.experiments.tasks.task import QualityTask


@dataclass(frozen=True, kw_only=True)
class MutationConfig(SampleOptions):
    """Options of `mutation`; `mutants` and `inputs` are per problem, `limit` is in problems."""

    data: str
    fields: dict[str, str] | None
    mutants: int = least(1)
    inputs: int = least(1)
    limit: int | None = least(1)
    verdict_cache: bool


class Mutation(QualityTask[MutationConfig]):
    """Runs the tests of programming problems on mutants of their reference solutions."""

    name = "mutation"
    title = "mutation"
    data = "the data of `code`, with reference solutions"
    measures = "mutation score of the tests, with added tests beside that of the base tests; needs no model output"
    position = 62
    Config = MutationConfig
    bundled = "code.jsonl"
    metrics = (
        Metric(
            key="mutation_score",
            title="mutation score",
            rank=4,
            display=with_error(3),
            read=figure("score"),
            error="score_standard_error",
            about="Share of wrong mutants that the tests notice (HumanEval+, MBPP+: the base tests); ± one standard "
            "error, by problem.",
        ),
        Metric(
            key="mutation_plus_score",
            title="mutation score+",
            rank=4,
            display=with_error(3),
            read=figure("plus_score"),
            error="plus_score_standard_error",
            about="Share of wrong mutants that base or added tests notice; ± one standard error, by problem.",
        ),
        Metric(
            key="mutation_mutants",
            title="mutants",
            rank=7,
            display=number("{:.0f}"),
            read=figure("mutants"),
            about="Mutants that ran, the equivalent ones included.",
        ),
    )

    @override
    def check_data(self, config: MutationConfig) -> None:
        for problem in self._problems(config):
            if problem.reference is None:
                raise UserError(f"{self.path(config)}: {problem.id!r} has no reference solution that could be changed")

    @override
    def count(self, config: MutationConfig) -> int | None:
        return len(self._problems(config))

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: MutationConfig, point: str) -> None:
        problems = self._problems(config)
        with ExitStack() as stack:
            judge = Judge(bench, problems, config.verdict_cache, stack)
            tested = _tested(judge, problems, config, bench.seed)
            groups = [_Group(item, problem, made) for item, (problem, made) in tested.items()]
            verdicts = _verdicts(judge, groups)
            equals, outputs_cpu_s = _equivalent(judge, groups, verdicts, config.inputs, bench.seed)
            tests_cpu_s = total_cpu_s(verdicts)
            figures = judge.figures()
        items = list(_items(groups, verdicts, equals))
        bench.write_items(entry, items)
        entry.parameters = {"mutants": config.mutants, "inputs": config.inputs}
        entry.figures = {
            **_scores(items, any(group.problem.suite is not None for group in groups)),
            "problems": len(groups),
            "problems_whose_reference_fails": len(problems) - len(groups),
            "problems_without_mutants": sum(not group.mutants for group in groups),
            "programs_cpu_s": None if tests_cpu_s is None or outputs_cpu_s is None else tests_cpu_s + outputs_cpu_s,
            **figures,
        }

    def _problems(self, config: MutationConfig) -> list[Problem]:
        return sampled(load(self.path(config), config.limit, config.fields), config, self.name)


TASK = Mutation()
_REFERENCE, _CONTRACT = -1, -2  # in place of a mutant's number


@dataclass(frozen=True)
class Item:
    """One line of the items file: a mutant."""

    id: str  # of the problem, and the mutant's number
    problem: str
    kind: str  # of the change
    diff: str
    status: str  # "killed" by base tests, "killed by added tests", "survived" or "equivalent"
    verdict: str  # of all tests: "passed", "failed", "crash" or "timeout"
    reason: str
    inputs: int  # further inputs for which its outputs were compared with the reference's


@dataclass(frozen=True)
class _Group:
    """The mutants of a problem whose reference passes."""

    item: int  # of the problem
    problem: Problem
    mutants: Sequence[Mutant]


def _tested(
    judge: Judge, problems: Sequence[Problem], config: MutationConfig, seed: int
) -> dict[int, tuple[Problem, list[Mutant]]]:
    """Return problem and mutants by item, for the problems whose reference passes its own tests."""
    verdicts = judge.of_completions([[str(problem.reference)] for problem in problems])
    return {
        item: (
            problem,
            mutants(problem.head + str(problem.reference), problem.head, config.mutants, f"{seed}/{problem.id}"),
        )
        for item, (problem, (verdict,)) in enumerate(zip(problems, verdicts, strict=True))
        if verdict.passed
    }


def _verdicts(judge: Judge, groups: Sequence[_Group]) -> list[list[Verdict]]:
    programs: list[tuple[int, Program]] = []
    for group in groups:
        tests = judge.program(group.item, "")
        programs += [(group.item, replace(tests, code=mutant.code)) for mutant in group.mutants]
    verdicts = iter(judge.verdicts(programs))
    return [[next(verdicts) for _ in group.mutants] for group in groups]


def _equivalent(
    judge: Judge, groups: Sequence[_Group], verdicts: Sequence[Sequence[Verdict]], count: int, seed: int
) -> tuple[dict[tuple[int, int], tuple[bool, int]], float | None]:
    """Return for each mutant that passes (is equal to the reference, number of inputs), and the CPU seconds."""
    calls: dict[tuple[int, int], Call] = {}
    for group, judged in zip(groups, verdicts, strict=True):
        codes = {at: group.mutants[at].code for at, verdict in enumerate(judged) if verdict.passed}
        inputs = tuple(further_inputs(group.problem, count, seed)) if codes else ()
        if not inputs:
            continue
        codes[_REFERENCE] = group.problem.head + str(group.problem.reference)
        if group.problem.suite is not None and group.problem.suite.validity is not None:
            codes[_CONTRACT] = group.problem.suite.validity
        entry = group.problem.entry_point
        calls |= {(group.item, at): Call(group.item, code, entry, inputs) for at, code in codes.items()}
    outputs = dict(zip(calls, judge.outputs(list(calls.values())), strict=True))
    equals = {
        (item, at): compared(outputs[item, _REFERENCE], result, outputs.get((item, _CONTRACT)))
        for (item, at), result in outputs.items()
        if at >= 0
    }
    times_s = [result.cpu_s for result in outputs.values()]
    known_s = [seconds for seconds in times_s if seconds is not None]
    return equals, sum(known_s) if len(known_s) == len(times_s) else None


def compared(reference: Outputs, mutant: Outputs, contract: Outputs | None) -> tuple[bool, int]:
    """Return whether both agree wherever the reference returns a value, and for how many inputs it does.

    An input that breaks the contract, or for which the reference raises, is one that the problem does not mean.
    """
    known = {at: output.key for at, output in enumerate(reference.outputs) if not output.is_error}
    if contract is not None:
        valid = {at for at, output in enumerate(contract.outputs) if not output.is_error}
        known = {at: key for at, key in known.items() if at in valid}
    own = [output.key for output in mutant.outputs]
    return all(at < len(own) and own[at] == key for at, key in known.items()), len(known)


def _items(
    groups: Sequence[_Group],
    verdicts: Sequence[Sequence[Verdict]],
    equals: Mapping[tuple[int, int], tuple[bool, int]],
) -> Iterator[Item]:
    for group, judged in zip(groups, verdicts, strict=True):
        for at, (mutant, verdict) in enumerate(zip(group.mutants, judged, strict=True)):
            # Without an input to compare, a survivor is no equivalent mutant: the score is then too low.
            is_equal, inputs = equals.get((group.item, at), (False, 0))
            status = "killed" if not verdict.passed_base else "killed by added tests"
            if verdict.passed:
                status = "equivalent" if is_equal and inputs else "survived"
            name = f"{group.problem.id}#{at}"
            yield Item(name, group.problem.id, mutant.kind, mutant.diff, status, verdict.status, verdict.reason, inputs)


def _scores(items: Sequence[Item], has_added: bool) -> JsonObject:
    wrong = [item for item in items if item.status != "equivalent"]
    clusters = [item.problem for item in wrong]
    base = [float(item.status == "killed") for item in wrong]
    both = [float(item.status != "survived") for item in wrong]
    figures: JsonObject = {
        "score": sum(base) / len(base) if base else None,
        "score_standard_error": standard_error(base, clusters) if base else None,
    }
    if has_added:
        figures |= {
            "plus_score": sum(both) / len(both) if both else None,
            "plus_score_standard_error": standard_error(both, clusters) if both else None,
        }
    return {
        **figures,
        "mutants": len(items),
        "equivalent_mutants": len(items) - len(wrong),
        "surviving_mutants": sum(item.status == "survived" for item in items),
        "survivors_without_inputs": sum(item.status == "survived" and not item.inputs for item in items),
        "killed_by_timeout": sum(item.verdict == "timeout" for item in items),
        "score_by_kind": {
            kind: sum(item.kind == kind and item.status == "killed" for item in wrong) / total
            for kind, total in sorted(Counter(item.kind for item in wrong).items())
        },
    }

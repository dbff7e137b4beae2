"""Scores a strategy: pass@1 of its answers beside greedy and plain sampling, and what it spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.requests import Decoding, Generated, TextPrompt
from runtime_matrix.experiments.problems.loading import Problem
from runtime_matrix.experiments.problems.shown_tests import shows_all_tests
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.statistics.paired import loss
from runtime_matrix.experiments.statistics.pass_at_k import pass_at, pass_at_k
from runtime_matrix.experiments.strategies.registry import StrategyChoice
from runtime_matrix.experiments.strategies.strategy import Answer, StrategyConfig, Visible
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.judging import Judge
from runtime_matrix.experiments.tasks.strategy_driver import Cost, Driver, TextSource


@dataclass(frozen=True)
class Result:
    """The answers of a strategy, judged."""

    texts: list[str]  # by problem
    verdicts: list[Verdict]
    greedy: list[Verdict]  # of greedy texts, or of the first given completions
    costs: list[Cost]
    figures: JsonObject


@dataclass(frozen=True)
class _Solving:
    """A finished run of the strategy, before anything is judged."""

    answers: list[Answer]
    driver: Driver
    wall_s: float | None  # None: some texts came from the response cache
    engine_cpu_s: float | None


def solve(
    bench: Bench,
    judge: Judge,
    choice: StrategyChoice,
    problems: Sequence[Problem],
    visible: Sequence[Visible],
    max_new_tokens: int,
    given: Mapping[str, Sequence[str]] | None,
) -> Result:
    """Run the chosen strategy on all problems, then judge its answers, greedy texts and plain samples."""
    config: StrategyConfig = choice.options
    solving = _solving(bench, judge, choice, visible, max_new_tokens, given)
    texts = [answer.text for answer in solving.answers]
    greedy, plain = _plain(solving.driver.texts, config, visible, max_new_tokens, given)
    verdicts, greedy_verdicts = _judged(judge, texts), _judged(judge, [text.text for text in greedy])
    figures: JsonObject = {
        **_gain(verdicts, greedy_verdicts, lambda verdict: verdict.passed_base, ""),
        **(
            _gain(verdicts, greedy_verdicts, lambda verdict: verdict.passed, "plus_")
            if any(verdict.base_status is not None for verdict in verdicts)
            else {}
        ),
        **_spent(solving, len(problems)),
        "greedy_new_tokens_per_problem": _mean([len(text.ids) for text in greedy]),
        **_beside_plain(judge, plain, solving.driver.costs),
        **_of_answers(judge, solving.answers),
        **_tests(judge, problems, solving.answers),
        "problems_without_examples": sum(not problem.examples for problem in visible),
        "strategy_leaks": _leaks(choice, problems, visible),
    }
    return Result(texts, verdicts, greedy_verdicts, solving.driver.costs, figures)


def _solving(
    bench: Bench,
    judge: Judge,
    choice: StrategyChoice,
    visible: Sequence[Visible],
    max_new_tokens: int,
    given: Mapping[str, Sequence[str]] | None,
) -> _Solving:
    assert choice.strategy is not None
    driver = Driver(bench, judge, judge.program, TextSource(bench), max_new_tokens, given)
    if given is None:
        bench.require_text()
    start_s, spent = time.perf_counter(), bench.cpu_apart()
    answers = driver.solve(choice.strategy, choice.options, visible)
    wall_s, cpu = time.perf_counter() - start_s, spent()
    is_fresh = driver.texts.cached_responses == 0
    engine_s = None if cpu.engine_s is None or cpu.client_s is None else cpu.engine_s + cpu.client_s
    return _Solving(answers, driver, wall_s if is_fresh else None, engine_s if is_fresh else None)


def _plain(
    texts: TextSource,
    config: StrategyConfig,
    visible: Sequence[Visible],
    max_new_tokens: int,
    given: Mapping[str, Sequence[str]] | None,
) -> tuple[list[Generated], list[list[Generated]]]:
    """Return the greedy text of each problem, and its plain samples; given completions have no samples."""
    if given is not None:
        return [Generated((), given[problem.id][0], "eos") for problem in visible], []
    prompts = [TextPrompt(problem.id, problem.prompt) for problem in visible]
    stop = visible[0].stop
    greedy = texts.get(prompts, Decoding(max_new_tokens, stop))
    sampling = Decoding(max_new_tokens, stop, config.plain_samples, config.plain_temperature)
    return [text for (text,) in greedy], texts.get(prompts, sampling)


def _judged(judge: Judge, texts: Sequence[str]) -> list[Verdict]:
    return [verdict for (verdict,) in judge.of_completions([[text] for text in texts])]


def _gain(
    verdicts: Sequence[Verdict], greedy: Sequence[Verdict], is_right: Callable[[Verdict], bool], prefix: str
) -> JsonObject:
    """Return pass@1 of greedy texts and the gain over it, paired by problem, with its interval."""
    scores = [float(is_right(verdict)) for verdict in verdicts]
    before = [float(is_right(verdict)) for verdict in greedy]
    rate, lost = _mean(before), loss(scores, before)
    gain = None if lost is None else lost.negated()
    ends = {} if gain is None else {"": gain.estimate + 0.0, "_low": gain.low, "_high": gain.high}  # no minus zero
    return {
        f"greedy_{prefix}pass_at_1": rate,
        f"greedy_{prefix}pass_at_1_standard_error": standard_error(before),
        **{f"{prefix}gain_over_greedy{end}": value for end, value in ends.items()},
        # The greedy rate is held fixed: the interval is that of the paired difference.
        **({f"{prefix}gain_ratio{end}": 1 + value / rate for end, value in ends.items()} if rate else {}),
        f"{prefix}repaired_problems": sum(now > was for now, was in zip(scores, before, strict=True)),
        f"{prefix}spoiled_problems": sum(was > now for now, was in zip(scores, before, strict=True)),
    }


def _spent(solving: _Solving, problems: int) -> JsonObject:
    costs = solving.driver.costs
    programs_s = [cost.programs_cpu_s for cost in costs]
    known_s = [seconds for seconds in programs_s if seconds is not None]
    return {
        "new_tokens_per_problem": _mean([cost.new_tokens for cost in costs]),
        "prompt_tokens_per_problem": _mean([cost.prompt_tokens for cost in costs]),
        "turns_per_problem": _mean([cost.turns for cost in costs]),
        "programs_per_problem": _mean([cost.programs for cost in costs]),
        "programs_cpu_s_per_problem": sum(known_s) / problems if len(known_s) == problems else None,
        "engine_cpu_s_per_problem": _per(solving.engine_cpu_s, problems),
        "wall_s_per_problem": _per(solving.wall_s, problems),
    }


def _beside_plain(judge: Judge, plain: Sequence[Sequence[Generated]], costs: Sequence[Cost]) -> JsonObject:
    """Return plain sampling's pass@1, and its pass@k for the k samples that the strategy's new tokens would buy.

    pass@k needs the hidden tests to choose, so it bounds what any choice among those samples can reach (Olausson et
    al. 2023, arXiv 2306.09896, section 3). None where the strategy spent more than the drawn samples.
    """
    if not plain:
        return {}
    verdicts = judge.of_completions([[text.text for text in texts] for texts in plain])
    passed = [(len(group), sum(verdict.passed_base for verdict in group)) for group in verdicts]
    tokens = _mean([len(text.ids) for texts in plain for text in texts])
    k = _mean([cost.new_tokens for cost in costs]) / tokens if tokens else None
    most = min(count for count, _ in passed)
    at_budget = None if k is None or k > most else [pass_at(count, right, max(1.0, k)) for count, right in passed]
    return {
        "plain_pass_at_1": _mean([pass_at_k(count, right, 1) for count, right in passed]),
        "plain_samples_in_budget": k,
        "plain_pass_at_budget": None if at_budget is None else _mean(at_budget),
        "plain_pass_at_budget_standard_error": None if at_budget is None else standard_error(at_budget),
    }


def _of_answers(judge: Judge, answers: Sequence[Answer]) -> JsonObject:
    """Return the share of problems that any candidate solves, pass@1 at each stage, and the strategy's own figures."""
    candidates = judge.of_completions([list(dict.fromkeys((answer.text, *answer.candidates))) for answer in answers])
    stages = list(dict.fromkeys(stage for answer in answers for stage in answer.stages))
    names = list(dict.fromkeys(name for answer in answers for name in answer.figures))
    return {
        "any_candidate_passes": _mean([any(verdict.passed_base for verdict in group) for group in candidates]),
        "stage_pass_at_1": {
            stage: _mean(
                [
                    verdict.passed_base
                    for verdict in _judged(judge, [answer.stages.get(stage, answer.text) for answer in answers])
                ]
            )
            for stage in stages
        },
        "own_figures": {
            name: _mean([answer.figures[name] for answer in answers if name in answer.figures]) for name in names
        },
    }


def _tests(judge: Judge, problems: Sequence[Problem], answers: Sequence[Answer]) -> JsonObject:
    """Return how many generated tests there are, and the share that the reference passes."""
    programs: list[tuple[int, Program]] = []
    for item, (problem, answer) in enumerate(zip(problems, answers, strict=True)):
        if problem.reference is not None:
            code = problem.head + problem.reference
            programs += [(item, Program(code, test, problem.entry_point, False)) for test in answer.tests]
    if not any(answer.tests for answer in answers):
        return {}
    right = [verdict.passed for verdict in judge.verdicts(programs)]
    return {
        "generated_tests_per_problem": _mean([len(answer.tests) for answer in answers]),
        "right_generated_tests": _mean(right) if right else None,
    }


def _leaks(choice: StrategyChoice, problems: Sequence[Problem], visible: Sequence[Visible]) -> str | None:
    """Return why the strategy knew the tests that judge it; None if it did not."""
    assert choice.strategy is not None
    own = choice.strategy.leaks(choice.options)
    if own is not None or not choice.strategy.needs_visible_tests(choice.options):
        return own
    pairs = zip(problems, visible, strict=True)
    known = sum(shows_all_tests(problem, [example.test for example in seen.examples]) for problem, seen in pairs)
    return f"{known} prompts show all tests that judge" if known else None


def _per(seconds: float | None, problems: int) -> float | None:
    return None if seconds is None else seconds / problems


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

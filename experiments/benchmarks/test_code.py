"""Code generation: programs run in the sandbox while the model goes on; pass@k."""

import json
import os
import time
from concurrent.futures import Future
from contextlib import ExitStack

from runtime_matrix.experiments.benchmarks.generating import Asked, Decoding, Figures, answers
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.cells.data import data_path, solutions
from runtime_matrix.experiments.config import CodeConfig
from runtime_matrix.experiments.core.rows import Generated
from runtime_matrix.experiments.measurement.statistics import standard_error
from runtime_matrix.experiments.sandbox.checks import plan_checks, verdict_is_inside
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool, Program, Verdict
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from runtime_matrix.experiments.tasks import code


def test_code(bench: Bench, entry: OpenEntry) -> None:
    asked = bench.cell.config.benchmark.code
    assert asked is not None
    problems = code.load(data_path("code", asked.data), asked.limit, asked.fields)
    start_s = time.perf_counter()
    with ExitStack() as stack:
        judge = _Judge(bench, asked, problems, stack)
        completions, ids, report = _completions(bench, asked, problems, judge)
        generated_s = time.perf_counter() - start_s
        verdicts = judge.verdicts(completions)
    path = bench.items_path("code")
    with open(path, "w", encoding="utf-8") as file:
        for problem, texts, found in zip(problems, completions, verdicts, strict=True):
            for sample, (text, verdict) in enumerate(zip(texts, found, strict=True)):
                item = code.Item(
                    id=problem.id,
                    sample=sample,
                    prompt=problem.prompt,
                    text=text,
                    ids=ids.get((problem.id, sample)),
                    status=verdict.status,
                    reason=verdict.reason,
                    is_right=verdict.passed,
                )
                file.write(json.dumps(vars(item)) + "\n")
    fewest = min(map(len, verdicts))
    ks = [k for k in asked.k if k <= fewest]
    result = code.summarise([(len(found), sum(one.passed for one in found)) for found in verdicts], ks)
    entry.items_file = path.name
    entry.parameters = {"samples": fewest, "temperature": asked.temperature, "solutions": asked.solutions}
    if not report.get("cached_responses"):  # otherwise it is not the time of generating
        entry.samples = {"generate_s": [generated_s], "total_s": [time.perf_counter() - start_s]}
    entry.figures = {
        **{f"pass_at_{k}": result.pass_at[k] for k in ks},
        **{f"pass_at_{k}_standard_error": standard_error(result.by_problem[k]) for k in ks},
        "items": result.items,
        "new_tokens": sum(map(len, ids.values())),
        **report,
        "programs_cpu_s": sum(one.cpu_s or 0.0 for found in verdicts for one in found),
        **judge.figures(),
    }


class _Judge:
    """Sends programs to the sandbox, those that were judged before to the cache."""

    def __init__(self, bench: Bench, asked: CodeConfig, problems: list[code.Problem], stack: ExitStack):
        options = bench.cell.config.sandbox
        limits = Limits(options.cpu_s, options.memory_mib, options.wall_s)
        workers = options.workers or len(os.sched_getaffinity(0))
        self._problems, self._overlap = problems, asked.overlap
        self._pool = stack.enter_context(Pool(workers, limits, options.insist, options.bubblewrap))
        self._cache = VerdictCache(bench.cell.artifacts / "verdicts.sqlite" if asked.verdict_cache else None, limits)
        stack.callback(self._cache.close)
        self._judged: dict[tuple[int, int], tuple[Program, Verdict | Future[Verdict]]] = {}

    def on_text(self, item: int, sample: int, result: Generated) -> None:
        if self._overlap:
            self._judge(item, sample, result.text)

    def verdicts(self, completions: list[list[str]]) -> list[list[Verdict]]:
        """Return all verdicts, when the last program has ended."""
        for item, texts in enumerate(completions):
            for sample, text in enumerate(texts):
                if (item, sample) not in self._judged:
                    self._judge(item, sample, text)
        fresh: list[tuple[Program, Verdict]] = []
        found: list[list[Verdict]] = []
        for item, texts in enumerate(completions):
            found.append([])
            for sample in range(len(texts)):
                program, verdict = self._judged[item, sample]
                if isinstance(verdict, Future):
                    verdict = verdict.result()
                    fresh.append((program, verdict))
                found[-1].append(verdict)
        self._cache.keep(fresh)
        return found

    def figures(self) -> dict[str, object]:
        inside = sum(
            verdict_is_inside(plan_checks(problem.test, problem.entry_point, problem.calls_check))
            for problem in self._problems
        )
        return {
            "sandbox_layers": self._pool.level,
            "sandbox_note": self._pool.note,
            "cached_verdicts": self._cache.hits,
            "verdicts_note": self._cache.note,
            "problems_judged_inside_the_program": inside,
        }

    def _judge(self, item: int, sample: int, text: str) -> None:
        problem = self._problems[item]
        program = Program(problem.head + text, problem.test, problem.entry_point, problem.calls_check, problem.helpers)
        self._judged[item, sample] = (program, self._cache.get(program) or self._pool.submit(program))


def _completions(
    bench: Bench, asked: CodeConfig, problems: list[code.Problem], judge: _Judge
) -> tuple[list[list[str]], dict[tuple[str, int], tuple[int, ...]], Figures]:
    """Return the completions of each problem, the tokens of generated ones, and what it took."""
    if asked.solutions != "model":
        given = solutions(asked, problems)
        return [given[problem.id] for problem in problems], {}, {}
    decoding = Decoding(asked.max_new_tokens, code.STOP, asked.samples, asked.temperature, asked.top_p)
    answered = answers(bench, [Asked(problem.id, problem.prompt) for problem in problems], decoding, judge.on_text)
    ids = {
        (problem.id, sample): one.ids
        for problem, found in zip(problems, answered.texts, strict=True)
        for sample, one in enumerate(found)
    }
    return [[one.text for one in found] for found in answered.texts], ids, answered.figures

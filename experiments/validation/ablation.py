"""The switches of the evaluation core, each as the same work with the switch on and off, and the factor between them.

The turns are within one process, which is enough for factors but not for verdicts on a few percent (see `compare`).
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.recomputing import Recomputing
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import Lookup
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool, Program
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.tasks import code, extractive_qa, multiple_choice, problems, questions, summarization
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA, QualityTask
from runtime_matrix.experiments.validation.claims import CLAIMS
from runtime_matrix.experiments.validation.tasks.ablation import AblationConfig

Clock = Callable[[], float]


@dataclass(frozen=True)
class Switch:
    """The same work with a switch on and off. The return values must be equal; None is not compared."""

    name: str
    key: str  # of the configuration
    on: Callable[[], Any]
    off: Callable[[], Any]
    clock: Clock = time.process_time


@dataclass(frozen=True)
class Factor:
    """The speedup of the work with the switch on; bounds are None for a single pair."""

    factor: float
    low: float | None
    high: float | None
    clock: str  # cpu or wall


@dataclass(frozen=True)
class Result:
    """The seconds of each turn with the switch on and off, and their factor."""

    on_s: list[float]
    off_s: list[float]
    factor: Factor


@dataclass(frozen=True)
class Writing:
    """The options of generating texts."""

    budget: int = 8192
    guess: bool = False  # speculative decoding by lookup
    recompute: bool = False  # without a key-value cache
    refill: bool = True
    few: bool = False  # every eighth text only


_SCORING, _UNSHARED, _EXACT = ScoringConfig(), ScoringConfig(share_prefix=False), ScoringConfig(batch_invariant=True)
_WRITING, _FEW, _ONE_GUESSED = Writing(), Writing(few=True), Writing(budget=1, guess=True, few=True)


def measure(switch: Switch, pairs: int) -> Result:
    """Run on and off in turns after one warm-up each. AssertionError if the answers differ."""
    expected = [switch.on(), switch.off()]
    _assert_same(switch.name, *expected)
    on_s: list[float] = []
    off_s: list[float] = []
    for pair in range(pairs):
        order = [(switch.on, on_s), (switch.off, off_s)]
        for work, seconds in order if pair % 2 == 0 else reversed(order):
            start = switch.clock()
            work()
            seconds.append(max(1e-6, switch.clock() - start))
    ratios = [math.log(off / on) for on, off in zip(on_s, off_s, strict=True)]
    interval = mean_interval(ratios)
    ratio_interval = interval.exp() if interval is not None else None
    factor = Factor(
        factor=ratio_interval.estimate if ratio_interval else math.exp(ratios[0]),
        low=ratio_interval.low if ratio_interval else None,
        high=ratio_interval.high if ratio_interval else None,
        clock="cpu" if switch.clock is time.process_time else "wall",
    )
    return Result(on_s, off_s, factor)


class Switches:
    """The switches of the evaluation core over the bundled data."""

    def __init__(self, bench: Bench, config: AblationConfig):
        self._bench, self._config = bench, config
        self._text = bench.require_text()
        self._eos_ids = bench.eos_ids

    def all(self) -> list[Switch]:
        """Return all switches in the order of the table."""
        wall = time.perf_counter
        return [
            self._scoring("batched rows", "scoring.batch", batch=False),
            self._scoring("shared prefix", "scoring.share_prefix", share_prefix=False),
            self._scoring("shared question", "scoring.share_question", share_question=False),
            self._scoring(
                "prefix, question and batches", "all three", batch=False, share_prefix=False, share_question=False
            ),
            # Whole prompts only: rows with a shared prefix are packed and have no padding for sorting to save.
            self._scoring("sorting by length", "scoring.sort_by_length", _UNSHARED, sort_by_length=False),
            self._scoring("token budget", "scoring.token_budget (off: 256)", token_budget=256),
            Switch("exact scores", "scoring.batch_invariant (on costs)", lambda: self._score(_EXACT), self._score),
            self._writing("key-value cache", "none: always on", _FEW, recompute=True),
            self._writing("batched texts", "generation.token_budget (off: one row)", _FEW, budget=1),
            self._writing("refilling", "generation.refill", Writing(budget=2000), refill=False),
            self._writing("speculation by lookup", "generation.speculate", Writing(guess=True), guess=False),
            self._writing("speculation, one row", "generation.speculate", _ONE_GUESSED, guess=False),
            Switch("early stop of texts", "stop strings", lambda: self._write() and None, self._write_on),
            Switch("overlap", "benchmark.code.overlap", lambda: self._judge(True), lambda: self._judge(False), wall),
            Switch("two workers", "sandbox.workers", lambda: self._run(2), lambda: self._run(1), wall),
            Switch(
                "verdict cache", "benchmark.code.verdict_cache", lambda: self._run(2, True), lambda: self._run(2), wall
            ),
            Switch("response cache", "responses.mode", self._answered, self._score),
        ]

    # The work

    @cached_property
    def _requests(self) -> list[ScoreRequest]:
        data = questions.load(_bundled(multiple_choice.TASK), self._config.questions, 5)
        prompts = []
        for question in data.questions:
            prompt = multiple_choice.prompt(question, data.shots_by_subject[question.subject], "texts")
            prompts.append(prompt)
        return [request for requests, _ in self._text.continuations(prompts) for request in requests]

    def _scoring(self, name: str, key: str, on: ScoringConfig = _SCORING, **off: Any) -> Switch:
        return Switch(name, key, lambda: self._score(on), lambda: self._score(dataclasses.replace(on, **off)))

    def _score(self, options: ScoringConfig = _SCORING) -> list[float]:
        scores = score(self._bench.runtime, self._bench.traits, self._requests, options)
        return [item_score.total for item_score in scores]

    def _answered(self) -> list[float]:
        responses = Responses(self._bench.folder / "ablation.sqlite", {}, use=True)
        cached = responses.scores(self._requests, exact=False)
        if None in cached:
            scores = score(self._bench.runtime, self._bench.traits, self._requests)
            responses.keep_scores(zip(self._requests, scores, strict=True), exact=False)
            cached = list(scores)
        responses.close()
        return [item_score.total for item_score in cached if item_score is not None]

    @cached_property
    def _problems(self) -> list[problems.Problem]:
        return problems.load(_bundled(code.TASK), self._config.texts)

    @cached_property
    def _prompts(self) -> list[GenerateRequest]:
        articles = summarization.load(_bundled(summarization.TASK), self._config.texts)
        qa_items = extractive_qa.load(_bundled(extractive_qa.TASK), self._config.texts)
        return [
            *(self._request(item.prompt, 128, code.STOP) for item in self._problems),
            *(self._request(summarization.prompt(item), 48, summarization.STOP) for item in articles),
            *(self._request(extractive_qa.prompt(item), 24, extractive_qa.STOP) for item in qa_items),
        ]

    def _request(self, prompt: str, tokens: int, stop: tuple[str, ...]) -> GenerateRequest:
        return GenerateRequest(self._text.prompt(prompt, tokens)[0], tokens, stop)

    def _writing(self, name: str, key: str, on: Writing, **off: Any) -> Switch:
        return Switch(name, key, lambda: self._write(on), lambda: self._write(dataclasses.replace(on, **off)))

    def _write(self, writing: Writing = _WRITING) -> list[str]:
        runtime: Any = Recomputing(self._bench.runtime) if writing.recompute else self._bench.runtime
        # Without a cache, or row by row, all texts would take minutes.
        prompts = self._prompts[::8] if writing.few else self._prompts
        options = GenerationConfig(token_budget=writing.budget, refill=writing.refill)
        drafter = Lookup(options.draft_tokens) if writing.guess else None
        texts = generate(
            runtime, self._bench.traits, prompts, self._text.piecewise, self._eos_ids, options, drafter=drafter
        )
        return [generated.text for (generated,) in texts]

    def _write_on(self) -> None:
        endless = [dataclasses.replace(request, stop=()) for request in self._prompts]
        generate(self._bench.runtime, self._bench.traits, endless, self._text.piecewise)

    def _judge(self, overlap: bool) -> list[bool]:
        prompts = self._prompts[: len(self._problems)]
        verdicts: dict[int, Any] = {}
        with Pool(2, _limits(self._bench)) as pool:

            def on_done(item: int, sample: int, result: Generated) -> None:
                if overlap:
                    verdicts[item] = pool.submit(_program(self._problems[item], result.text))

            bench = self._bench
            texts = generate(
                bench.runtime, bench.traits, prompts, self._text.piecewise, self._eos_ids, None, on_done,
                GenerationReport(),
            )  # fmt: skip
            for item, (generated,) in enumerate(texts):
                if item not in verdicts:
                    verdicts[item] = pool.submit(_program(self._problems[item], generated.text))
            return [verdicts[item].result().passed for item in range(len(prompts))]

    def _run(self, workers: int, cached: bool = False) -> list[bool]:
        programs = [_program(problem, str(problem.reference)) for problem in self._problems]
        limits = _limits(self._bench)
        with ExitStack() as stack:
            pool = stack.enter_context(Pool(workers, limits))
            cache = VerdictCache(self._bench.folder / "ablation-verdicts.sqlite" if cached else None, limits)
            stack.callback(cache.close)
            cached_verdicts = [cache.get(program) for program in programs]
            futures = {
                index: pool.submit(program) for index, program in enumerate(programs) if cached_verdicts[index] is None
            }
            fresh = {index: future.result() for index, future in futures.items()}
            cache.keep([(programs[index], verdict) for index, verdict in fresh.items()])
            return [(verdict or fresh[index]).passed for index, verdict in enumerate(cached_verdicts)]


def _bundled(task: QualityTask[Any]) -> Path:
    return BUNDLED_DATA / task.bundled


def _limits(bench: Bench) -> Limits:
    options = bench.sandbox
    return Limits(options.cpu_s, options.memory_mib, options.wall_s)


def _program(problem: problems.Problem, text: str) -> Program:
    return Program(problem.head + text, problem.test, problem.entry_point, problem.calls_check, problem.helpers)


def _assert_same(name: str, on: Any, off: Any) -> None:
    if on is None or off is None:
        return
    if on and isinstance(on[0], float):
        furthest = max(abs(a - b) for a, b in zip(on, off, strict=True))
        assert furthest < 1e-3, f"{name}: scores differ by {furthest}"
    else:
        assert on == off, f"{name}: the answers differ"


def write_table(switches: Sequence[Switch], factors: Mapping[str, Factor], path: Path, command: str) -> None:
    """Write a Markdown table of our factors and the claimed ones."""
    machine = environment()
    lines = ["# What each switch of the evaluation core gives", ""]
    lines.append(
        f"{machine.processor}, {machine.cores} cores, torch {machine.versions['torch']}, "
        f"{datetime.date.today().isoformat()}, commit {(machine.commit or 'unknown')[:7]}, load "
        f"{machine.load_average[0]:.1f}, `{command}`. In turns in one process; the clock of each row is CPU time of "
        "the process (cpu) or wall time (wall)."
    )
    lines += ["", "| switch | key | factor of on over off [95 %] | clock | claimed | why they differ |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for switch in switches:
        factor, (claim, reason) = factors[switch.name], CLAIMS.get(switch.name, ("", ""))
        interval = f" [{factor.low:.2f}, {factor.high:.2f}]" if factor.low is not None else ""
        lines.append(
            f"| {switch.name} | `{switch.key}` | {factor.factor:.2f}{interval} | {factor.clock} | {claim} | {reason} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

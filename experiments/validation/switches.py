"""The work of each switch of the evaluation core over the bundled data, with the switch on and off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import Lookup
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from runtime_matrix.experiments.tasks import code, extractive_qa, multiple_choice, questions, summarization
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA, QualityTask
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.experiments.validation.one_process import answered
from runtime_matrix.experiments.validation.tasks.ablation import SWITCHES, AblationConfig

OnDone = Callable[[int, int, Generated], None]
_BUNDLED_MODEL = BUNDLED_DATA.parent / "model"
_ONE_LOAD = "one load"
_QA_TOKENS = 24
_LOADS_PAIRS = 3  # each turn starts as many processes as there are questions


@dataclass(frozen=True)
class Writing:
    """The options of generating texts."""

    budget: int = 8192
    guess: bool = False  # speculative decoding by lookup
    recompute: bool = False  # without a key-value cache
    refill: bool = True
    endless: bool = False  # texts end at a stop string only after all their tokens
    every: int = 1  # only every n-th text: without a cache, or row by row, all would take minutes


_SCORING, _UNSHARED, _EXACT = ScoringConfig(), ScoringConfig(share_prefix=False), ScoringConfig(batch_invariant=True)
_FEW, _ONE_GUESSED = Writing(every=8), Writing(budget=1, guess=True, every=8)
_NOTHING = Writing(budget=1, recompute=True, refill=False, endless=True)


class Switches:
    """The switches of the evaluation core over the bundled data."""

    def __init__(self, bench: Bench, config: AblationConfig):
        self._bench, self._config = bench, config
        self._text = bench.require_text()
        self._eos_ids = bench.eos_ids

    def all(self) -> list[Switch]:
        """Return all switches in the order of the table."""
        work = self._works()
        most_pairs = {_ONE_LOAD: _LOADS_PAIRS}
        names = [name for name in SWITCHES if name != _ONE_LOAD or self._config.loads > 0]
        return [Switch(name, *work[name], most_pairs.get(name)) for name in names]

    def _works(self) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
        """Return the work of each switch, on and off."""
        scoring, writing = self._scoring, self._writing
        none: JsonObject = {"batch": False, "share_prefix": False, "share_question": False}
        return {
            "batched rows": scoring(batch=False),
            "shared prefix": scoring(share_prefix=False),
            "shared question": scoring(share_question=False),
            "prefix, question and batches": scoring(**none),
            # Whole prompts only: rows with a shared prefix are packed and have no padding for sorting to save.
            "sorting by length": scoring(_UNSHARED, sort_by_length=False),
            "token budget": scoring(token_budget=256),
            "exact scores": (partial(self._score, _EXACT), self._score),
            "key-value cache": writing(_FEW, recompute=True),
            "batched texts": writing(_FEW, budget=1),
            "refilling": writing(Writing(budget=2000), refill=False),
            "speculation by lookup": writing(Writing(guess=True), guess=False),
            "speculation, one row": writing(_ONE_GUESSED, guess=False),
            "early stop of texts": writing(Writing(), endless=True),
            "everything, texts": (
                partial(self._write, _FEW),
                partial(self._write, dataclasses.replace(_NOTHING, every=8)),
            ),
            "overlap": (partial(self._judge, overlap=True), self._judge),
            "two workers": (partial(self._run, 2), partial(self._run, 1)),
            "everything, code benchmark": (
                partial(self._judge, Writing(every=2), overlap=True),
                partial(self._judge, dataclasses.replace(_NOTHING, every=2), workers=1),
            ),
            "verdict cache": (partial(self._run, 2, cached=True), partial(self._run, 2)),
            "response cache": (self._answered, self._score),
            _ONE_LOAD: (self._one_load, self._load_each),
        }

    # Scores

    @cached_property
    def _requests(self) -> list[ScoreRequest]:
        data = questions.load(_bundled(multiple_choice.TASK), self._config.questions, 5)
        prompts = []
        for question in data.questions:
            prompt = multiple_choice.prompt(question, data.shots_by_subject[question.subject], "texts")
            prompts.append(prompt)
        return [request for requests, _ in self._text.continuations(prompts) for request in requests]

    def _scoring(
        self, on: ScoringConfig = _SCORING, **off: Any
    ) -> tuple[Callable[[], list[float]], Callable[[], list[float]]]:
        return partial(self._score, on), partial(self._score, dataclasses.replace(on, **off))

    def _score(self, options: ScoringConfig = _SCORING) -> list[float]:
        scores = score(self._bench.require_steps(), self._bench.traits, self._requests, options)
        return [item_score.total for item_score in scores]

    def _answered(self) -> list[float]:
        responses = Responses(self._bench.folder / "ablation.sqlite", {}, use=True)
        cached = responses.scores(self._requests, exact=False)
        if None in cached:
            scores = score(self._bench.require_steps(), self._bench.traits, self._requests)
            responses.keep_scores(zip(self._requests, scores, strict=True), exact=False)
            cached = list(scores)
        responses.close()
        return [item_score.total for item_score in cached if item_score is not None]

    # Texts

    @cached_property
    def _problems(self) -> list[loading.Problem]:
        return loading.load(_bundled(code.TASK), self._config.texts)

    @cached_property
    def _code_prompts(self) -> list[GenerateRequest]:
        return [self._request(item.prompt, 128, code.STOP) for item in self._problems]

    def _qa_prompts(self, count: int) -> list[GenerateRequest]:
        qa_items = extractive_qa.load(_bundled(extractive_qa.TASK), count)
        return [self._request(extractive_qa.prompt(item), _QA_TOKENS, extractive_qa.STOP) for item in qa_items]

    @cached_property
    def _prompts(self) -> list[GenerateRequest]:
        articles = summarization.load(_bundled(summarization.TASK), self._config.texts)
        summaries = [self._request(summarization.prompt(item), 48, summarization.STOP) for item in articles]
        return [*self._code_prompts, *summaries, *self._qa_prompts(self._config.texts)]

    def _request(self, prompt: str, tokens: int, stop: tuple[str, ...]) -> GenerateRequest:
        return GenerateRequest(self._text.prompt(prompt, tokens)[0], tokens, stop)

    def _writing(self, on: Writing, **off: Any) -> tuple[Callable[[], list[str]], Callable[[], list[str]]]:
        return partial(self._write, on), partial(self._write, dataclasses.replace(on, **off))

    def _write(self, writing: Writing) -> list[str]:
        return self._generate(self._prompts[:: writing.every], writing)

    def _generate(
        self, prompts: list[GenerateRequest], writing: Writing, on_done: OnDone = lambda item, sample, result: None
    ) -> list[str]:
        runtime, cached = self._bench.require_steps(), not writing.recompute
        options = GenerationConfig(token_budget=writing.budget, refill=writing.refill, kv_cache=cached)
        drafter = Lookup(options.draft_tokens) if writing.guess else None
        asked = [dataclasses.replace(prompt, stop=()) for prompt in prompts] if writing.endless else prompts
        texts = generate(
            runtime, self._bench.traits, asked, self._text.piecewise, self._eos_ids, options, on_done, drafter=drafter
        )
        return [_cut(generated.text, prompt.stop) for prompt, (generated,) in zip(prompts, texts, strict=True)]

    # Programs

    def _judge(self, writing: Writing = Writing(), overlap: bool = False, workers: int = 2) -> list[bool]:
        """Generate programs and run them, while others are generated or afterwards."""
        chosen, prompts = self._problems[:: writing.every], self._code_prompts[:: writing.every]
        verdicts: dict[int, Any] = {}
        with Pool(workers, _limits(self._bench)) as pool:

            def on_done(item: int, sample: int, result: Generated) -> None:
                if overlap:
                    verdicts[item] = pool.submit(_program(chosen[item], result.text))

            for item, text in enumerate(self._generate(prompts, writing, on_done)):
                if item not in verdicts:
                    verdicts[item] = pool.submit(_program(chosen[item], text))
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

    # Processes

    @cached_property
    def _questions(self) -> list[tuple[int, ...]]:
        return [request.ids for request in self._qa_prompts(self._config.loads)]

    def _one_load(self) -> list[list[int]]:
        return answered(_BUNDLED_MODEL, self._questions, _QA_TOKENS)

    def _load_each(self) -> list[list[int]]:
        return [answer for ids in self._questions for answer in answered(_BUNDLED_MODEL, [ids], _QA_TOKENS)]


def _cut(text: str, stop: tuple[str, ...]) -> str:
    """Return the text up to its first stop string, as generation that stops there returns it."""
    return text[: min((at for mark in stop if (at := text.find(mark)) >= 0), default=len(text))]


def _bundled(task: QualityTask[Any]) -> Path:
    return BUNDLED_DATA / task.bundled


def _limits(bench: Bench) -> Limits:
    options = bench.sandbox
    return Limits(options.cpu_s, options.memory_mib, options.wall_s)


def _program(problem: loading.Problem, text: str) -> Program:
    return Program(problem.head + text, problem.test, problem.entry_point, problem.calls_check, problem.helpers)

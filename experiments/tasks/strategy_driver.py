"""Advances a strategy's answers to all problems together: requests of one kind are served in one batch."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from runtime_matrix.experiments.evaluation.requests import Continuations, Decoding, Generated, TextPrompt
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Checked,
    Execute,
    Generate,
    Hidden,
    Likelihood,
    Request,
    RunTests,
    Steps,
    Strategy,
    StrategyConfig,
    Text,
    Visible,
    generate,
)
from runtime_matrix.experiments.tasks.bench import Bench

R = TypeVar("R", bound=Request)
Key = tuple[int, int]  # (problem, request of its turn)


@dataclass(frozen=True)
class Call:
    """Calls of a program's function."""

    item: int  # of the problem
    code: str
    entry_point: str
    inputs: tuple[tuple[object, ...], ...]


class Programs(Protocol):
    """Runs programs."""

    def verdicts(self, programs: Sequence[tuple[int, Program]]) -> list[Verdict]:
        """Return the verdict of each (problem, program)."""
        ...

    def outputs(self, calls: Sequence[Call]) -> list[Outputs]:
        """Return what each program returns for its inputs."""
        ...


@dataclass
class Cost:
    """What a strategy spent on one problem."""

    new_tokens: int = 0
    prompt_tokens: int = 0  # each prompt counts once, however many samples share it; scored texts count too
    turns: int = 0  # requests for texts that waited for an earlier result
    programs: int = 0
    programs_cpu_s: float | None = 0.0  # None: unknown for a program that was killed with its grader


class TextSource:
    """Generates texts, each once: plain sampling reuses a strategy's samples of the same prompt and seeds."""

    def __init__(self, bench: Bench):
        self._bench = bench
        self._known: dict[tuple[TextPrompt, Decoding], list[Generated]] = {}
        self.cached_responses = 0  # texts from the response cache, whose generation was not timed

    def get(self, prompts: Sequence[TextPrompt], decoding: Decoding) -> list[list[Generated]]:
        """Return the samples of each prompt."""
        missing = [prompt for prompt in prompts if (prompt, decoding) not in self._known]
        if missing:
            answers = self._bench.answers(missing, decoding)
            self.cached_responses += int(answers.figures.get("cached_responses") or 0)
            for prompt, texts in zip(missing, answers.texts, strict=True):
                self._known[prompt, decoding] = texts
        return [self._known[prompt, decoding] for prompt in prompts]


@dataclass
class Driver:
    """Serves the requests of a strategy. `given` has completions by problem id, used instead of a model's texts."""

    bench: Bench
    programs: Programs
    hidden: Callable[[int, str], Program]  # (problem, completion) to the program with its hidden tests
    texts: TextSource
    max_new_tokens: int
    given: Mapping[str, Sequence[str]] | None = None
    costs: list[Cost] = field(default_factory=list)  # by problem
    _used: dict[int, int] = field(default_factory=dict)  # given completions taken so far, by problem
    _problems: Sequence[Visible] = ()

    def solve(self, strategy: Strategy[Any], config: StrategyConfig, problems: Sequence[Visible]) -> list[Answer]:
        """Return the answer to each problem; `costs` has what each took."""
        self._problems, self._used = problems, {}
        self.costs = [Cost() for _ in problems]
        plans = {index: self._plan(strategy, config, problem) for index, problem in enumerate(problems)}
        answers: dict[int, Answer] = {}
        waiting: dict[int, Sequence[Request]] = {}
        results: dict[int, list[object] | None] = dict.fromkeys(plans)
        while results:
            waiting = {}
            for index, result in results.items():
                try:
                    waiting[index] = plans[index].send(result)  # type: ignore[arg-type]  # None starts a generator
                except StopIteration as end:
                    answers[index] = end.value
            results = dict(self._serve(waiting))
        return [answers[index] for index in range(len(problems))]

    def _plan(self, strategy: Strategy[Any], config: StrategyConfig, problem: Visible) -> Steps[Answer]:
        if strategy.needs_examples and not problem.examples:
            return _greedy(problem)
        seed = hashlib.sha256(f"{self.bench.seed}/{problem.id}".encode()).digest()[:8]
        return strategy.solve(problem, config, int.from_bytes(seed, "big"))

    def _serve(self, waiting: Mapping[int, Sequence[Request]]) -> dict[int, list[object]]:
        """Return the results of each problem's requests, in their order."""
        requests = {(index, at): request for index, turn in waiting.items() for at, request in enumerate(turn)}
        served: dict[Key, object] = {
            **self._texts(_of(requests, Generate)),
            **self._tests(_of(requests, RunTests)),
            **self._outputs(_of(requests, Execute)),
            **self._likelihoods(_of(requests, Likelihood)),
            **self._hidden(_of(requests, Hidden)),
        }
        return {index: [served[index, at] for at in range(len(turn))] for index, turn in waiting.items()}

    def _texts(self, requests: Mapping[Key, Generate]) -> dict[Key, object]:
        for index in {index for index, _ in requests}:
            self.costs[index].turns += 1
        if self.given is not None:
            return {key: self._taken(key[0], request) for key, request in requests.items()}
        alike: dict[Decoding, list[Key]] = defaultdict(list)
        for key, request in requests.items():
            tokens = request.max_new_tokens or self.max_new_tokens
            alike[Decoding(tokens, request.stop, request.samples, request.temperature)].append(key)
        served: dict[Key, object] = {}
        for decoding, keys in alike.items():
            prompts = [TextPrompt(self._seeded(key[0], requests[key]), requests[key].prompt) for key in keys]
            for key, prompt, texts in zip(keys, prompts, self.texts.get(prompts, decoding), strict=True):
                served[key] = [Text(text.text, len(text.ids)) for text in texts]
                cost = self.costs[key[0]]
                cost.new_tokens += sum(len(text.ids) for text in texts)
                cost.prompt_tokens += len(self.bench.require_text().prompt(prompt.prompt, decoding.max_new_tokens)[0])
        return served

    def _seeded(self, index: int, request: Generate) -> str:
        """Return the id that the seeds of the samples are made of; that of a first turn is plain sampling's."""
        name = self._problems[index].id
        return f"{name}/{request.turn}" if request.turn else name

    def _taken(self, index: int, request: Generate) -> list[Text]:
        """Return the next given completions, as many as there are; skips the benchmark for any other prompt."""
        problem = self._problems[index]
        if request.prompt != problem.prompt:
            self.bench.skip("the strategy asks with prompts of its own, which given solutions do not answer")
        assert self.given is not None
        start = self._used.get(index, 0)
        taken = self.given[problem.id][start : start + request.samples]
        self._used[index] = start + len(taken)
        return [Text(text, 0) for text in taken]

    def _tests(self, requests: Mapping[Key, RunTests]) -> dict[Key, object]:
        programs = []
        for (index, _), request in requests.items():
            problem = self._problems[index]
            tests = "".join(f"{test}\n" for test in request.tests)
            programs.append((index, Program(problem.head + request.text, tests, problem.entry_point, False)))
        return self._judged(list(requests), programs)

    def _hidden(self, requests: Mapping[Key, Hidden]) -> dict[Key, object]:
        programs = [(index, self.hidden(index, request.text)) for (index, _), request in requests.items()]
        return self._judged(list(requests), programs)

    def _judged(self, keys: Sequence[Key], programs: Sequence[tuple[int, Program]]) -> dict[Key, object]:
        verdicts = self.programs.verdicts(programs) if programs else []
        for (index, _), verdict in zip(keys, verdicts, strict=True):
            self._ran(index, verdict.cpu_s)
        return {
            key: Checked(verdict.passed, verdict.status, verdict.reason)
            for key, verdict in zip(keys, verdicts, strict=True)
        }

    def _outputs(self, requests: Mapping[Key, Execute]) -> dict[Key, object]:
        calls = []
        for (index, _), request in requests.items():
            problem = self._problems[index]
            calls.append(Call(index, problem.head + request.text, problem.entry_point, request.inputs))
        results = self.programs.outputs(calls) if calls else []
        for (index, _), outputs in zip(requests, results, strict=True):
            self._ran(index, outputs.cpu_s)
        return dict(zip(requests, results, strict=True))

    def _ran(self, index: int, cpu_s: float | None) -> None:
        cost = self.costs[index]
        cost.programs += 1
        cost.programs_cpu_s = None if cpu_s is None or cost.programs_cpu_s is None else cost.programs_cpu_s + cpu_s

    def _likelihoods(self, requests: Mapping[Key, Likelihood]) -> dict[Key, object]:
        """Return mean log-probabilities; that of an empty text, which has no token, is minus infinity."""
        if not requests:
            return {}
        if self.given is not None:
            self.bench.skip("the strategy needs log-probabilities of the model, and the solutions are given")
        served: dict[Key, object] = {key: float("-inf") for key, request in requests.items() if not request.text}
        scored = {key: request for key, request in requests.items() if request.text}
        contexts = [Continuations("", request.prompt, [request.text]) for request in scored.values()]
        tokens = [request for (request,), _ in self.bench.require_text().continuations(contexts)]
        results = self.bench.scorer(len(tokens)).scores(tokens)
        for key, request, result in zip(scored, tokens, results, strict=True):
            served[key] = result.total / len(result.logprobs)
            self.costs[key[0]].prompt_tokens += len(request.ids)
        return served


def _of(requests: Mapping[Key, Request], kind: type[R]) -> dict[Key, R]:
    return {key: request for key, request in requests.items() if isinstance(request, kind)}


def _greedy(problem: Visible) -> Steps[Answer]:
    (text,) = yield from generate(problem)
    return Answer(text.text, (text.text,))

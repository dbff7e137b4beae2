"""One face for both kinds of engines: those that compute steps, and those that take whole requests.

Benchmarks ask a face for scores, texts and timed tokens, and never learn which kind of engine answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.admission import Limits
from runtime_matrix.experiments.evaluation.arriving_tokens import Arrivals, ArrivingRow
from runtime_matrix.experiments.evaluation.continuous import ContinuousBatching
from runtime_matrix.experiments.evaluation.decoding import decode_batch
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import (
    Failed,
    Generated,
    GenerateRequest,
    Intake,
    Scored,
    ScoreRequest,
)
from runtime_matrix.experiments.evaluation.rows import Row
from runtime_matrix.experiments.evaluation.scoring import score_batches
from runtime_matrix.experiments.evaluation.speculation import Drafter
from runtime_matrix.runtimes.base import Engine, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.requests import Listener, RequestRuntime, Stream

Scores = list[tuple[int, Scored | Failed]]  # (index of the request, result)
NewText = Callable[[Sequence[int]], Callable[[int], str]]  # from a prompt to what turns its new tokens into text
OnText = Callable[[int, int, Generated | Failed], None]  # (request, sample, result), as soon as a text is finished


@dataclass(frozen=True)
class Decoded:
    """The tokens of each prompt.

    `arrived_at_s`: when each step's tokens arrived, by `time.perf_counter`; tokens of a row that arrive together share
    the time since its tokens before. None: when `after_step` was called.
    """

    tokens: list[list[int]]
    arrived_at_s: list[float] | None = None


class Face(Protocol):
    """What is asked of a loaded engine."""

    def score(self, requests: Sequence[ScoreRequest], options: ScoringConfig, tally: Tally) -> Iterator[Scores]:
        """Yield results as soon as they are known; each request has exactly one.

        Raises Unsupported, before the first result, if the engine gives no such log-probabilities.
        """
        ...

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        new_text: NewText,
        eos_ids: Sequence[int],
        options: GenerationConfig,
        on_text: OnText,
        report: GenerationReport,
        drafter: Drafter | None = None,
    ) -> None:
        """Generate all texts. `eos_ids` end a text."""
        ...

    def decode(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, after_step: Callable[[], None] = lambda: None
    ) -> Decoded:
        """Return the greedy tokens of each prompt; `after_step` is called when all have their next token.

        No token ends a text. Raises RequestFailed, or Unsupported if the tokens cannot be told apart.
        """
        ...

    def synchronize(self) -> None:
        """Wait for submitted work."""
        ...

    def intake(self, slots: int) -> AbstractContextManager[Intake]:
        """Open what takes requests under load: the engine's scheduler, or ours, which computes `slots` rows together.

        Raises Unsupported if single tokens cannot be observed.
        """
        ...

    def banned(self, eos_ids: Sequence[int]) -> frozenset[int]:
        """Return those of the end-of-text tokens that `decode` may leave out of the choice."""
        ...


def face_of(engine: Engine, traits: Traits, generation: GenerationConfig | None = None) -> Face:
    """Return the face of a loaded engine, whose timed tokens and intake are generated with these options."""
    if isinstance(engine, RequestRuntime):
        return WholeRequests(engine)
    return Steps(cast(Runtime, engine), traits, generation)  # or what wraps a runtime


class Steps:
    """The face of an engine that computes one step at a time."""

    def __init__(self, runtime: Runtime, traits: Traits, generation: GenerationConfig | None = None):
        self.runtime, self.traits, self.generation = runtime, traits, generation

    def score(self, requests: Sequence[ScoreRequest], options: ScoringConfig, tally: Tally) -> Iterator[Scores]:
        """See `Face`."""
        for batch in score_batches(self.runtime, self.traits, requests, options, tally):
            yield [*batch]

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        new_text: NewText,
        eos_ids: Sequence[int],
        options: GenerationConfig,
        on_text: OnText,
        report: GenerationReport,
        drafter: Drafter | None = None,
    ) -> None:
        """See `Face`."""
        generate(self.runtime, self.traits, requests, new_text, eos_ids, options, on_text, report, drafter)

    def decode(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, after_step: Callable[[], None] = lambda: None
    ) -> Decoded:
        """See `Face`."""
        return Decoded(decode_batch(self.runtime, self.traits, prompts, new_tokens, after_step, self.generation))

    def synchronize(self) -> None:
        """See `Face`."""
        self.runtime.synchronize()

    @contextmanager
    def intake(self, slots: int) -> Iterator[Intake]:
        """See `Face`. Texts are not made of the tokens."""
        batching = ContinuousBatching(
            self.runtime,
            self.traits,
            lambda ids: lambda token: "",
            options=self.generation,
            limits=Limits(max_batch=slots, max_requests=sys.maxsize),
        )
        try:
            yield _Batching(batching)
        finally:
            batching.close()

    def banned(self, eos_ids: Sequence[int]) -> frozenset[int]:
        """See `Face`."""
        return frozenset()


@dataclass(frozen=True)
class _Batching:
    """Continuous batching as an intake."""

    scheduler: ContinuousBatching
    waiting_metrics: Sequence[str] = ("waiting",)

    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        return self.scheduler.start(request, listener)

    def metrics(self) -> Mapping[str, float]:
        counts = vars(self.scheduler.counts).copy()
        return {**counts, "waiting": max(0, counts["admitted"] - counts["running"])}


class WholeRequests:
    """The face of an engine that takes whole requests."""

    def __init__(self, runtime: RequestRuntime):
        self.runtime = runtime

    def score(self, requests: Sequence[ScoreRequest], options: ScoringConfig, tally: Tally) -> Iterator[Scores]:
        """See `Face`."""
        tally.is_counted = False
        with closing(self.runtime.score(requests)) as results:
            for index, result in results:
                yield [(index, result)]
        tally.asked_tokens += sum(len(request.prefix) + len(request.ids) - 1 for request in requests)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        new_text: NewText,
        eos_ids: Sequence[int],
        options: GenerationConfig,
        on_text: OnText,
        report: GenerationReport,
        drafter: Drafter | None = None,
    ) -> None:
        """See `Face`. The server decides about batches; `options` and `drafter` have no effect."""
        report.is_counted = False
        with closing(self.runtime.generate(requests)) as results:  # none computes on when `on_text` gives up
            for index, sample, result in results:
                if isinstance(result, Generated):
                    result = ended(result, requests[index], new_text, frozenset(eos_ids), self.runtime)
                on_text(index, sample, result)

    def decode(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, after_step: Callable[[], None] = lambda: None
    ) -> Decoded:
        """See `Face`. All prompts are sent at once, each as a stream of its own."""
        self._check_observed()
        arrivals = Arrivals(len(prompts), new_tokens)
        streams: list[Stream] = []
        try:
            for row, prompt in enumerate(prompts):
                request = GenerateRequest(tuple(prompt), new_tokens, ignore_eos=True)
                streams.append(self.runtime.start(request, ArrivingRow(arrivals, row)))
            for step in range(new_tokens):
                arrivals.wait_for(step + 1)
                after_step()
            return Decoded(arrivals.all_ended(), arrivals.steps_at_s())
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise

    def synchronize(self) -> None:
        """See `Face`. Nothing is submitted that was not waited for."""

    @contextmanager
    def intake(self, slots: int) -> Iterator[Intake]:
        """See `Face`. The server's own options decide how many rows it computes together."""
        self._check_observed()
        yield self.runtime

    def _check_observed(self) -> None:
        can = self.runtime.capabilities
        for name in ("returns_ids", "streams"):
            if not getattr(can, name):
                raise Unsupported(f"tokens cannot be timed: {can.reasons[name]}")

    def banned(self, eos_ids: Sequence[int]) -> frozenset[int]:
        """See `Face`."""
        return frozenset() if self.runtime.capabilities.end_of_text == "ignored" else frozenset(eos_ids)


def ended(
    result: Generated,
    request: GenerateRequest,
    new_text: NewText,
    eos_ids: frozenset[int],
    runtime: RequestRuntime,
) -> Generated | Failed:
    """Return a server's text as this project defines it: the ids before the end, the text before the stop string."""
    if not runtime.capabilities.returns_ids:
        starts = [at for stop in request.stop if (at := result.text.find(stop)) >= 0]
        return replace(result, text=result.text[: min(starts)], finished_by="stop") if starts else result
    row = Row(0, 0, replace(request, seeds=request.seeds[:1]), new_text(request.ids))
    for token in result.ids:
        finished = row.add(token, eos_ids)
        if finished is not None:
            return finished
    if result.finished_by == "length":
        return Failed(f"the text has {len(result.ids)} of {request.max_new_tokens} tokens and no end")
    # Servers find a stop string before its token is complete, and may leave out the token that ends a text.
    return Generated(tuple(row.ids), row.text, "eos" if not request.stop else result.finished_by)

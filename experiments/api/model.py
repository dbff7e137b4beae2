"""A model loaded under one runtime, in this process: scores, texts and perplexity. For speed see `measure`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Continuations, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.tasks.perplexity import summarise, windows
from runtime_matrix.runtimes.base import Runtime, Traits


class Model:
    """A loaded model. As a context manager it frees everything at the end of the block."""

    def __init__(self, cell: Cell, runtime: Runtime, traits: Traits, text: Text):
        self.cell, self.text = cell, text
        self.runtime, self.traits = runtime, traits

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free everything. Closing twice is allowed."""
        self.runtime.close()

    def score(self, context: str, continuations: Sequence[str]) -> list[float]:
        """Return the log-probability of each continuation after the context, in nats."""
        return self.score_all([(context, continuations)])[0]

    def score_all(self, questions: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """Return the log-probabilities of each question's continuations, in nats; each context is computed once.

        A question is a context and its continuations. Raises ValueError for an empty context or continuation, and for
        a question that exceeds the model's context.
        """
        contexts = [Continuations("", context, list(endings)) for context, endings in questions]
        if any(not question.stem for question in contexts):
            raise ValueError("a context is empty: give at least one token before the continuations")
        if any(not ending for question in contexts for ending in question.endings):
            raise ValueError("a continuation is empty: give at least one token to score")
        groups = self.text.continuations(contexts)
        if any(was_cut for _, was_cut in groups):
            raise ValueError(
                f"a context and its continuation exceed the model's context of {self.cell.facts.max_length} tokens: "
                "shorten the context"
            )
        flat = [request for requests, _ in groups for request in requests]
        scored = iter(score(self.runtime, self.traits, flat, self.cell.config.scoring))
        return [[next(scored).total for _ in requests] for requests, _ in groups]

    def generate(
        self,
        prompts: str | Sequence[str],
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """Return one text per prompt, without the prompt. Temperature 0 is greedy; texts end before a stop string.

        Raises ValueError for a prompt that exceeds the model's context together with its new tokens.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        generator, limit = random.Random(seed), self.cell.facts.max_length
        requests = []
        for prompt in prompts:
            ids, was_cut = self.text.prompt(prompt, max_new_tokens)
            if was_cut or (limit is not None and len(ids) + max_new_tokens > limit):
                raise ValueError(
                    f"a prompt and {max_new_tokens} new tokens exceed the model's context of {limit} tokens: shorten "
                    "the prompt or lower max_new_tokens"
                )
            seeds = (generator.getrandbits(63),)
            requests.append(GenerateRequest(ids, max_new_tokens, tuple(stop), temperature, top_p, seeds))
        options, eos_ids = self.cell.config.generation, self.cell.facts.eos_ids
        texts = generate(self.runtime, self.traits, requests, self.text.piecewise, eos_ids, options)
        return [text.text for (text,) in texts]

    def perplexity(self, text: str, window: int = 256) -> float:
        """Return the perplexity of a text per token, in disjoint windows of `window` tokens.

        Raises ValueError for a text without a token to score, and for windows that exceed the model's context.
        """
        limit = self.cell.facts.max_length
        if window < 2:
            raise ValueError(f"window={window} must be at least 2: a token is scored after another one")
        if limit is not None and window > limit:
            raise ValueError(f"window={window} exceeds the model's context of {limit}")
        parts = windows(self.text.encode(text), self.text.bos_id, window)
        requests = [ScoreRequest(part.ids, part.first_scored) for part in parts]
        if not requests:
            raise ValueError("the text has no token to score: give a longer one")
        scored = score(self.runtime, self.traits, requests, self.cell.config.scoring)
        return summarise([part.logprobs for part in scored], len(text.encode())).perplexity


def load(runtime: str = "eager", *overrides: str) -> Model:
    """Load a model under a runtime, in this process. What is built is stored in the artifact cache.

    `overrides` are those of `python -m experiments.run`, such as "model=local", "model.path=DIR", "hw.threads=4".
    Raises UserError for a mistake, and Unsupported if this machine or installation cannot run it.
    """
    if "=" in runtime:
        raise UserError(f"the first argument of load is the name of a runtime, such as 'eager'; found {runtime!r}")
    words = [f"runtime={runtime}", *overrides]
    cell = plan(compose(words), command_line("run", words))
    text = loading.make_text(cell)
    if text is None:
        problem = cell.facts.tokenizer_problem or "the model has no tokenizer"
        raise UserError(f"{problem}: load needs one for texts")
    hardware = cell.hardware(device.resolve(cell.config.hw)[0])
    with ExitStack() as on_failure:
        loaded = on_failure.enter_context(loading.make_stepping(cell.config.runtime, "loaded by this function"))
        traits = loading.load(cell, loaded, cell.config.runtime, hardware, lambda name: nullcontext())
        on_failure.pop_all()
    return Model(cell, loaded, traits, text)

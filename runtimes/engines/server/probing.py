"""Find out by asking what a server does, because some ignore a field and answer 200."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines.server.calls import Calls, Prompt
from runtime_matrix.runtimes.engines.server.messages import (
    COMPLETIONS,
    MALFORMED,
    Dialect,
    likeliest,
    parts,
    prompt_scores,
    usage,
)
from runtime_matrix.runtimes.engines.server.tokens import TEXTS, Tokens
from runtime_matrix.runtimes.http_calls import CallFailed, Connection
from runtime_matrix.runtimes.requests import Capabilities, Failed, Generated, GenerateRequest

_ALTERNATIVES = (4096, 100, 20, 5)  # likeliest tokens to ask for; servers have limits
_REFUSED = (401, 403)
_PROMPTS, _PROMPT_TOKENS = 12, 16
_ENDING_TOKENS = 48
_REUSED_TOKENS = 272  # vLLM reuses prompts in whole blocks, of 128 tokens on a CPU


@dataclass(frozen=True)
class Served:
    """The model that a server serves."""

    name: str
    max_length: int | None  # tokens per sequence; None: not reported


async def served_model(connection: Connection, wanted: str | None, key_variable: str) -> Served:
    """Return the served model: the wanted one, or the only one. Raises Unsupported in one line."""
    try:
        reply = await connection.get("/v1/models", tries=1)
        models = {str(model["id"]): model for model in reply["data"]}
    except CallFailed as failure:
        if failure.status in (None, *_REFUSED) or wanted is None:
            raise refused(
                failure, key_variable, f"{failure}: start the server, or correct runtime.engine.url"
            ) from None
        return Served(wanted, None)
    except MALFORMED:
        raise Unsupported(
            "/v1/models does not list models: is runtime.engine.url an OpenAI-compatible server?"
        ) from None
    if wanted is None and len(models) == 1:
        (wanted,) = models
    if wanted is None:
        raise Unsupported(f"the server has {len(models)} models: set runtime.engine.model to one of {_few(models)}")
    if wanted not in models:
        raise Unsupported(f"the server has no model {wanted}; it has {_few(models)}")
    return Served(wanted, _max_length(models[wanted]))


def refused(failure: CallFailed, key_variable: str, otherwise: str) -> Unsupported:
    """Return the error for a call that failed while connecting: about the API key, or `otherwise`."""
    if failure.status in _REFUSED:
        return Unsupported(f"the server refuses the API key: set the environment variable {key_variable} ({failure})")
    return Unsupported(otherwise)


def _few(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:5])
    return shown + (", …" if len(names) > 5 else "") if names else "none"


def _max_length(model: Any) -> int | None:
    meta = model.get("meta") if isinstance(model.get("meta"), dict) else {}
    lengths = [model.get("max_model_len"), meta.get("n_ctx")]
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


@dataclass
class Probe:
    """Asks a server, one question after the other."""

    connection: Connection
    model: str
    tokens: Tokens
    max_length: int
    fields: Mapping[str, bool]  # that the user wants to be sent with every request

    def __post_init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._prompts = self.tokens.drawn(_PROMPTS, min(_PROMPT_TOKENS, self.max_length // 4))
        self._prompt: Prompt = list

    async def run(self) -> tuple[Dialect, Capabilities]:
        """Return the dialect of the server and what it does.

        Raises CallFailed if it generates nothing at all, and Unsupported if it takes texts that cannot be made.
        """
        dialect = Dialect(self.model, fields=self.fields)
        takes_ids = await self._takes_ids(dialect)
        if takes_ids:
            dialect = replace(dialect, id_source=await self._id_source(dialect))
            dialect = replace(dialect, score_source=await self._score_source(dialect))
        else:
            self._ask_by_text()
        calls = Calls(self.connection, dialect, self._prompt, 0)
        capabilities = Capabilities(
            takes_ids=takes_ids,
            returns_ids=dialect.id_source is not None,
            prompt_logprobs=dialect.score_source is not None,
            top_logprobs=await self._alternatives(dialect) if takes_ids else 0,
            end_of_text=await self._end_of_text(calls) if dialect.id_source else "banned",
            seeds=await self._seeds(calls),
            streams=await self._streams(dialect),
            caches_prefixes=await self._caches_prefixes(dialect) if takes_ids else None,
            reports_metrics=await self._reports_metrics(),
        )
        reasons = {name: self.connection.hidden(reason) for name, reason in self._reasons.items()}
        return dialect, replace(capabilities, reasons=reasons)

    def _ask_by_text(self) -> None:
        reason = self._reasons["takes_ids"]
        if self.tokens.tokenizer is None:
            raise Unsupported(f"{reason}, and the model has no tokenizer")
        self._prompts, self._prompt = [self.tokens.encode(text) for text in TEXTS], self.tokens.text
        for name in ("returns_ids", "prompt_logprobs", "top_logprobs"):
            self._reasons[name] = reason

    async def _takes_ids(self, dialect: Dialect) -> bool:
        ids = self._prompts[0]
        try:
            reply = await self._generated(dialect, ids, 2)
        except CallFailed as failure:
            if failure.status not in (400, 404, 422):
                raise
            self._reasons["takes_ids"] = f"the server takes no token ids as a prompt ({failure})"
            return False
        counts = usage(reply)
        if counts is not None and counts.prompt_tokens not in (None, len(ids)):
            self._reasons["takes_ids"] = (
                f"the server counts {counts.prompt_tokens} tokens in a prompt of {len(ids)} ids"
            )
            return False
        return True

    async def _id_source(self, dialect: Dialect) -> Any:
        for source in ("token_ids", "completion", "logprobs"):
            trial = replace(dialect, id_source=source)
            try:
                found = parts(await self._generated(trial, self._prompts[0], 3), trial.id_source)
            except (CallFailed, *MALFORMED):
                continue
            if found and found[0].ids:
                return source
        self._reasons["returns_ids"] = "the server returns no ids of the tokens that it generates"
        return None

    async def _score_source(self, dialect: Dialect) -> Any:
        ids = self._prompts[0]
        for source in ("prompt_logprobs", "echo"):
            trial = replace(dialect, score_source=source)
            try:
                reply = await self.connection.post(COMPLETIONS, trial.scoring([ids]), tries=1)
                prompt_scores(reply["choices"][0], ids, 1, trial.score_source)  # type: ignore[arg-type]
            except (CallFailed, *MALFORMED):
                continue
            return source
        self._reasons["prompt_logprobs"] = (
            "the server gives no log-probabilities of prompts (it refuses or ignores prompt_logprobs and echo)"
        )
        return None

    async def _alternatives(self, dialect: Dialect) -> int:
        for count in _ALTERNATIVES:
            try:
                reply = await self.connection.post(COMPLETIONS, dialect.next_token(self._prompts[0], count), tries=1)
                by_id = likeliest(reply)
            except (CallFailed, *MALFORMED):
                continue
            if by_id:
                return len(by_id)
        self._reasons["top_logprobs"] = "the server gives no log-probabilities of the next token by id"
        return 0

    async def _end_of_text(self, calls: Calls) -> Any:
        """Find a text that ends by itself, and ask for it again with the end ignored."""
        for ids in self._prompts:
            request = GenerateRequest(tuple(ids), _ENDING_TOKENS)
            ended = await _text(calls, request)
            if ended is None or ended.finished_by == "length":
                continue
            again = await _text(calls, replace(request, ignore_eos=True))
            if again is None or again.finished_by != "length":
                self._reasons["end_of_text"] = "texts end although ignore_eos asks the server to go on"
                return "ends"
            before = ended.ids[:-1] if ended.ids[-1:] and ended.ids[-1] in self.tokens.eos_ids else ended.ids
            at = len(before)
            goes_on_behind_it = again.ids[:at] == before and again.ids[at] in self.tokens.eos_ids
            return "ignored" if goes_on_behind_it else "banned"
        return "banned"  # not seen; the check of timed tokens allows for both

    async def _seeds(self, calls: Calls) -> bool:
        request = GenerateRequest(tuple(self._prompts[0]), 16, temperature=1.0, seeds=(7,))
        first, second = await _text(calls, request), await _text(calls, request)
        if first is not None and second is not None and (first.ids, first.text) == (second.ids, second.text):
            return True
        self._reasons["seeds"] = "equal seeds gave different samples"
        return False

    async def _streams(self, dialect: Dialect) -> bool:
        request = GenerateRequest(tuple(self._prompts[0]), 8, ignore_eos=True)
        body = dialect.generation(request, self._prompt(request.ids), 0, stream=True)
        arrivals = set()
        try:
            async with aclosing(self.connection.events(dialect.path, body)) as events:
                async for at_s, event in events:
                    if any(part.ids or part.text for part in parts(event, dialect.id_source)):
                        arrivals.add(at_s)
        except (CallFailed, *MALFORMED) as failure:
            self._reasons["streams"] = f"the server does not stream: {failure}"
            return False
        if len(arrivals) < 2:
            self._reasons["streams"] = "the server sends all tokens of a stream together"
        return len(arrivals) >= 2

    async def _caches_prefixes(self, dialect: Dialect) -> bool | None:
        cached, (ids,) = None, self.tokens.drawn(1, min(_REUSED_TOKENS, self.max_length // 2))
        for _ in range(2):
            try:
                counts = usage(await self._generated(dialect, ids, 1))
            except CallFailed:
                return None
            cached = counts.cached_tokens if counts is not None else None
        return None if cached is None else cached > 0

    async def _reports_metrics(self) -> bool:
        try:
            return "# TYPE" in str(await self.connection.get("/metrics", tries=1))
        except CallFailed:
            return False

    async def _generated(self, dialect: Dialect, ids: Sequence[int], tokens: int) -> Any:
        body = dialect.generation(GenerateRequest((), tokens), list(ids), 0, stream=False)
        return await self.connection.post(dialect.path, body, tries=2)


async def _text(calls: Calls, request: GenerateRequest) -> Generated | None:
    async for _, _, result in calls.generate([(0, 0, request)]):
        return None if isinstance(result, Failed) else result
    return None

"""Find out by asking what a server does, because some ignore a field and answer 200."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines.server.calls import Calls
from runtime_matrix.runtimes.engines.server.connection import CallFailed, Connection
from runtime_matrix.runtimes.engines.server.messages import (
    COMPLETIONS,
    Dialect,
    likeliest,
    parts,
    prompt_scores,
    usage,
)
from runtime_matrix.runtimes.requests import Capabilities, Failed, Generated, GenerateRequest

_TEXTS = ("Once upon a time there was a small town by a river.", "def add(a, b):\n    return a + b")
_ALTERNATIVES = (4096, 100, 20, 5)  # likeliest tokens to ask for; servers have limits
_ENDING_TRIES, _ENDING_TOKENS = 12, 48
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


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
        if failure.status in (401, 403):
            raise Unsupported(
                f"the server refuses the API key: set the environment variable {key_variable} ({failure})"
            ) from None
        if failure.status is None or wanted is None:
            raise Unsupported(f"{failure}: start the server, or correct runtime.engine.url") from None
        return Served(wanted, None)
    except _MALFORMED:
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


def _few(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:5])
    return shown + (", …" if len(names) > 5 else "") if names else "none"


def _max_length(model: Any) -> int | None:
    meta = model.get("meta") if isinstance(model.get("meta"), dict) else {}
    lengths = [model.get("max_model_len"), meta.get("n_ctx")]
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


@dataclass
class Probe:
    """Asks a server, one question after the other. `prompt_ids` are two or more token ids that the model knows."""

    connection: Connection
    model: str
    prompt_ids: Sequence[Sequence[int]]
    fields: Mapping[str, Any]  # that the user wants to be sent with every request
    _reasons: dict[str, str] = field(default_factory=dict)

    async def run(self) -> tuple[Dialect, Capabilities]:
        """Return the dialect of the server and what it does. Raises CallFailed if it generates nothing at all."""
        dialect = Dialect(self.model, fields=self.fields)
        takes_ids = await self._takes_ids(dialect)
        if takes_ids:
            dialect = dataclasses.replace(dialect, id_source=await self._id_source(dialect))
            dialect = dataclasses.replace(dialect, score_source=await self._score_source(dialect))
        else:
            for name in ("returns_ids", "prompt_logprobs", "top_logprobs"):
                self._reasons[name] = self._reasons["takes_ids"]
        calls = Calls(self.connection, dialect, list, 0)
        capabilities = Capabilities(
            takes_ids=takes_ids,
            returns_ids=dialect.id_source is not None,
            prompt_logprobs=dialect.score_source is not None,
            top_logprobs=await self._alternatives(dialect) if takes_ids else 0,
            end_of_text=await self._end_of_text(calls) if dialect.id_source else "banned",
            seeds=await self._seeds(calls) if takes_ids else True,
            streams=await self._streams(dialect) if takes_ids else True,
            caches_prefixes=await self._caches_prefixes(dialect) if takes_ids else None,
            reports_metrics=await self._reports_metrics(),
        )
        return dialect, dataclasses.replace(capabilities, reasons=dict(self._reasons))

    async def _takes_ids(self, dialect: Dialect) -> bool:
        ids = self.prompt_ids[0]
        try:
            reply = await self._generated(dialect, list(ids), 2)
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
            trial = dataclasses.replace(dialect, id_source=source)
            try:
                found = parts(await self._generated(trial, list(self.prompt_ids[0]), 3), trial.id_source)
            except (CallFailed, *_MALFORMED):
                continue
            if found and found[0].ids:
                return source
        self._reasons["returns_ids"] = "the server returns no ids of the tokens that it generates"
        return None

    async def _score_source(self, dialect: Dialect) -> Any:
        ids = self.prompt_ids[0]
        for source in ("prompt_logprobs", "echo"):
            trial = dataclasses.replace(dialect, score_source=source)
            try:
                reply = await self.connection.post(COMPLETIONS, trial.scoring([ids]), tries=1)
                prompt_scores(reply["choices"][0], ids, 1, trial.score_source)  # type: ignore[arg-type]
            except (CallFailed, *_MALFORMED):
                continue
            return source
        self._reasons["prompt_logprobs"] = (
            "the server gives no log-probabilities of prompts (it refuses or ignores prompt_logprobs and echo)"
        )
        return None

    async def _alternatives(self, dialect: Dialect) -> int:
        for count in _ALTERNATIVES:
            try:
                reply = await self.connection.post(COMPLETIONS, dialect.next_token(self.prompt_ids[0], count), tries=1)
                by_id = likeliest(reply)
            except (CallFailed, *_MALFORMED):
                continue
            if by_id:
                return len(by_id)
        self._reasons["top_logprobs"] = "the server gives no log-probabilities of the next token by id"
        return 0

    async def _end_of_text(self, calls: Calls) -> Any:
        """Find a text that ends by itself, and ask for it again with the end ignored."""
        for ids in self.prompt_ids[:_ENDING_TRIES]:
            ended = await _text(calls, GenerateRequest(tuple(ids), _ENDING_TOKENS))
            if ended is None or ended.finished_by == "length":
                continue
            request = GenerateRequest(tuple(ids), _ENDING_TOKENS, ignore_eos=True)
            again = await _text(calls, request)
            if again is None or len(again.ids) <= len(ended.ids):
                self._reasons["end_of_text"] = "texts end although ignore_eos asks the server to go on"
                return "ends"
            at = len(ended.ids) - 1
            return "ignored" if again.ids[: at + 1] == ended.ids else "banned"
        return "banned"  # not seen; the check of timed tokens allows for both

    async def _seeds(self, calls: Calls) -> bool:
        request = GenerateRequest(tuple(self.prompt_ids[0]), 16, temperature=1.0, seeds=(7,))
        first, second = await _text(calls, request), await _text(calls, request)
        if first is not None and second is not None and (first.ids, first.text) == (second.ids, second.text):
            return True
        self._reasons["seeds"] = "equal seeds gave different samples"
        return False

    async def _streams(self, dialect: Dialect) -> bool:
        request = GenerateRequest(tuple(self.prompt_ids[0]), 8, ignore_eos=True)
        body = dialect.generation(request, list(request.ids), 0, stream=True)
        arrivals = 0
        try:
            async for _, event in self.connection.events(dialect.path, body):
                arrivals += any(part.ids or part.text for part in parts(event, dialect.id_source)) if event else 0
        except (CallFailed, *_MALFORMED) as failure:
            self._reasons["streams"] = f"the server does not stream: {failure}"
            return False
        if arrivals < 2:
            self._reasons["streams"] = "the server sends all tokens of a stream together"
        return arrivals >= 2

    async def _caches_prefixes(self, dialect: Dialect) -> bool | None:
        cached = None
        for _ in range(2):
            try:
                counts = usage(await self._generated(dialect, list(self.prompt_ids[-1]), 1))
            except CallFailed:
                return None
            cached = counts.cached_tokens if counts is not None else None
        return None if cached is None else cached > 0

    async def _reports_metrics(self) -> bool:
        try:
            return "# TYPE" in str(await self.connection.get("/metrics", tries=1))
        except CallFailed:
            return False

    async def _generated(self, dialect: Dialect, prompt: Any, tokens: int) -> Any:
        request = GenerateRequest((), tokens)
        return await self.connection.post(dialect.path, dialect.generation(request, prompt, 0, stream=False), tries=2)


async def _text(calls: Calls, request: GenerateRequest) -> Generated | None:
    async for _, _, result in calls.generate([(0, 0, request)]):
        return None if isinstance(result, Failed) else result
    return None


async def check_tokenizer(connection: Connection, model: str, encode: Any) -> None:
    """Raise Unsupported if the server's tokens of two texts differ from `encode(text)`, special tokens included.

    Servers with `/tokenize` tell the ids; of the others the number of tokens is compared.
    """
    for text in _TEXTS:
        ours = encode(text)
        theirs = await _tokens(connection, model, text)
        count = len(theirs) if isinstance(theirs, list) else theirs
        if count is None or theirs == ours:
            continue
        if isinstance(theirs, list) or count != len(ours):
            raise Unsupported(
                f"the server's tokenizer differs from the model's: {text[:24]!r} is {count} tokens there and "
                f"{len(ours)} here{', with other ids' if count == len(ours) else ''}; "
                "set model.path to the folder of the model that is served"
            )


async def _tokens(connection: Connection, model: str, text: str) -> list[int] | int | None:
    """Return the ids of a text, or their number; None if the server tells neither."""
    body = {"model": model, "prompt": text, "content": text, "add_special": True, "add_special_tokens": True}
    try:
        tokens = (await connection.post("/tokenize", body, tries=1))["tokens"]
        if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens):
            return tokens
    except (CallFailed, *_MALFORMED):
        pass
    body = {"model": model, "prompt": text, "max_tokens": 1}
    try:
        counts = usage(await connection.post(COMPLETIONS, body, tries=1))
    except CallFailed:
        return None
    return counts.prompt_tokens if counts is not None else None

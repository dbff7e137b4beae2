"""The bodies of requests and what the replies say, in the dialects of the OpenAI API. No calls are made here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime_matrix.runtimes.base import ReadOnlyJson
from runtime_matrix.runtimes.http_calls import CallFailed
from runtime_matrix.runtimes.requests import GenerateRequest, Scored, Usage

IdSource = Literal["token_ids", "completion", "logprobs"]
ScoreSource = Literal["prompt_logprobs", "echo"]
COMPLETIONS, LLAMA_COMPLETION = "/v1/completions", "/completion"
_MOST_STOPS = 4  # that the OpenAI API takes; texts are cut at all of them when they have arrived
MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)  # of a reply of another form
_ROUNDING = 1e-2  # of a log-probability of 0, in the dtypes that servers compute in
_NAMED = "token_id:"  # as vLLM names a token by its id
_NO_OTHER_SAMPLING = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Dialect:
    """What a server understands, found by the probe.

    `id_source` says where the ids of new tokens stand: in `token_ids` (vLLM), in the `tokens` of llama.cpp's own
    `/completion`, or beside the log-probabilities.
    """

    model: str
    id_source: IdSource | None = None
    score_source: ScoreSource | None = None
    fields: Mapping[str, bool] = field(default_factory=dict)  # sent with every request, such as cache_prompt

    @property
    def path(self) -> str:
        """Return the path of generation."""
        return LLAMA_COMPLETION if self.id_source == "completion" else COMPLETIONS

    def generation(self, request: GenerateRequest, prompt: Any, seed: int, *, stream: bool) -> ReadOnlyJson:
        """Return the body of a generation; `prompt` is what the server takes: ids, a text, or a list of either."""
        is_llama = self.id_source == "completion"
        body: dict[str, Any] = {
            **self.fields,
            "model": self.model,
            "prompt": prompt,
            "n_predict" if is_llama else "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "stream": stream,
        }
        if request.temperature > 0:
            body |= {"top_p": request.top_p, "seed": seed % 2**31, **_NO_OTHER_SAMPLING}
        if request.stop:
            body["stop"] = list(request.stop) if is_llama else list(request.stop[:_MOST_STOPS])
        if request.ignore_eos:
            body["ignore_eos"] = True
        if is_llama:
            body["return_tokens"] = True
        elif self.id_source == "token_ids":
            body["return_token_ids"] = True
        elif self.id_source == "logprobs":
            body["logprobs"] = 1
        if stream and not is_llama:
            body["stream_options"] = {"include_usage": True}
        return body

    def scoring(self, prompts: Sequence[Sequence[int]]) -> ReadOnlyJson:
        """Return the body that asks for the log-probabilities of the prompts' tokens."""
        wanted: dict[str, Any] = {"prompt_logprobs": 1}
        if self.score_source == "echo":
            wanted = {"echo": True, "logprobs": 1, "return_tokens_as_token_ids": True}
        body = {"model": self.model, "prompt": [list(ids) for ids in prompts], "max_tokens": 1, "temperature": 0.0}
        return {**self.fields, **body, **wanted}

    def next_token(self, ids: Sequence[int], alternatives: int) -> ReadOnlyJson:
        """Return the body that asks for the likeliest tokens after a prompt."""
        body = {"model": self.model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "logprobs": alternatives}
        return {**self.fields, **body, "return_tokens_as_token_ids": True}


@dataclass
class Part:
    """What one event of a stream, or a whole reply, says of one choice."""

    index: int = 0
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finished_by: str | None = None  # as the server names it; None: it goes on

    def followed_by(self, part: Part) -> Part:
        """Return both as one."""
        end = part.finished_by or self.finished_by
        return Part(self.index, self.ids + part.ids, self.text + part.text, end)


def check_error(reply: Any) -> None:
    """Raise CallFailed for an error that is sent with status 200, as within a stream."""
    if isinstance(reply, dict) and reply.get("error"):
        error = reply["error"]
        raise CallFailed(str(error.get("message", error) if isinstance(error, dict) else error)[:200])


def parts(reply: Any, source: IdSource | None) -> list[Part]:
    """Return what a reply or an event says; an event without choices gives an empty list. Raises CallFailed."""
    check_error(reply)
    if source == "completion":
        return [_llama_part(one) for one in (reply if isinstance(reply, list) else [reply])]
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if choices is None:
        return []
    return [_part(choice, source) for choice in _list(choices, "choices")]


def usage(reply: Any) -> Usage | None:
    """Return the counts of a reply or event; None if it has none."""
    if not isinstance(reply, dict):
        return None
    counts = reply.get("usage")
    if isinstance(counts, dict):
        details = counts.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return Usage(_count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")), _count(cached))
    if "tokens_evaluated" in reply and reply.get("stop") is True:
        timings = reply.get("timings")
        cached = timings.get("cache_n") if isinstance(timings, dict) else None
        return Usage(_count(reply["tokens_evaluated"]), _count(reply.get("tokens_predicted")), _count(cached))
    return None


def prompt_scores(choice: Any, ids: Sequence[int], first_scored: int, source: ScoreSource) -> Scored:
    """Return the scores of a prompt's tokens from `first_scored` on. Raises CallFailed if they are not all there."""
    read = _from_prompt_logprobs if source == "prompt_logprobs" else _from_echo
    pairs = read(choice, ids, first_scored)
    for logprob, margin in pairs:
        if not math.isfinite(logprob) or not math.isfinite(margin):
            raise CallFailed("the server gave a log-probability that is not finite")
        if logprob > _ROUNDING:
            raise CallFailed(f"the server gave a log-probability of {logprob:g}, above 0")
    return Scored(tuple(logprob for logprob, _ in pairs), tuple(margin for _, margin in pairs))


def likeliest(reply: Any) -> dict[int, float]:
    """Return the log-probabilities of the likeliest next tokens, by id; empty if the server gives none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    logprobs = choices[0].get("logprobs") if choices else None
    if not isinstance(logprobs, dict):
        return {}
    content = logprobs.get("content")
    if isinstance(content, list) and content:
        rows = content[0].get("top_logprobs") or []
        return {row["id"]: row["logprob"] for row in rows if isinstance(row.get("id"), int) and _finite(row["logprob"])}
    tops = logprobs.get("top_logprobs")
    first = tops[0] if isinstance(tops, list) and tops else None
    if not isinstance(first, dict):
        return {}
    by_id = {key.removeprefix(_NAMED): value for key, value in first.items() if key.startswith(_NAMED)}
    return {int(key): value for key, value in by_id.items() if key.isdigit() and _finite(value)}


def _part(choice: Any, source: IdSource | None) -> Part:
    if not isinstance(choice, dict):
        raise CallFailed("a choice of the reply is not an object")
    ids: list[int] = []
    if source == "token_ids":
        ids = _ids(choice.get("token_ids") or [])
    elif source == "logprobs" and isinstance(choice.get("logprobs"), dict):
        ids = _ids([token.get("id") for token in choice["logprobs"].get("content") or []])
    return Part(int(choice.get("index") or 0), ids, str(choice.get("text") or ""), choice.get("finish_reason"))


def _llama_part(reply: Any) -> Part:
    if not isinstance(reply, dict):
        raise CallFailed("the reply is not an object")
    end = str(reply.get("stop_type")) if reply.get("stop") is True else None
    return Part(int(reply.get("index") or 0), _ids(reply.get("tokens") or []), str(reply.get("content") or ""), end)


def _from_prompt_logprobs(choice: Any, ids: Sequence[int], first_scored: int) -> list[tuple[float, float]]:
    rows = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if not isinstance(rows, list) or len(rows) != len(ids):
        found = len(rows) if isinstance(rows, list) else 0
        raise CallFailed(f"the server gave {found} log-probabilities for a prompt of {len(ids)} tokens")
    pairs = []
    for token, row in list(zip(ids, rows, strict=True))[first_scored:]:
        own = row.get(str(token)) if isinstance(row, dict) else None
        if not isinstance(own, dict) or not _number(own.get("logprob")):
            raise CallFailed(f"the server gave no log-probability of the token {token}: its tokenizer differs")
        highest = max(other["logprob"] for other in row.values() if _number(other.get("logprob")))
        pairs.append((float(own["logprob"]), float(highest - own["logprob"])))
    return pairs


def _from_echo(choice: Any, ids: Sequence[int], first_scored: int) -> list[tuple[float, float]]:
    logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
    own = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    tops = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    lengths = (len(ids), len(ids) + 1)  # a new token may follow
    if not (isinstance(own, list) and isinstance(tops, list) and len(own) == len(tops) and len(own) in lengths):
        found = len(own) if isinstance(own, list) else 0
        raise CallFailed(f"the server gave {found} log-probabilities for a prompt of {len(ids)} tokens")
    _check_names(choice["logprobs"].get("tokens"), ids)
    pairs = []
    for logprob, top in list(zip(own, tops, strict=False))[first_scored : len(ids)]:
        values = [value for value in (top or {}).values() if _number(value)]
        if not _number(logprob) or not values:
            raise CallFailed("the server left out the log-probability of a token of the prompt")
        pairs.append((float(logprob), max(0.0, float(max(values) - logprob))))
    return pairs


def _check_names(tokens: Any, ids: Sequence[int]) -> None:
    """Compare the tokens of an echo with the prompt's, where the server names them by id. Raises CallFailed."""
    if not isinstance(tokens, list) or not all(str(token).startswith(_NAMED) for token in tokens):
        return
    if [str(token).removeprefix(_NAMED) for token in tokens[: len(ids)]] != [str(token) for token in ids]:
        raise CallFailed("the server's tokens of the prompt are others: its tokenizer differs")


def _ids(values: Any) -> list[int]:
    ids = _list(values, "token ids")
    if not all(isinstance(value, int) and value >= 0 for value in ids):
        raise CallFailed("the reply has token ids that are no numbers")
    return ids


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise CallFailed(f"the reply's {what} are no list")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return _number(value) and math.isfinite(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None

"""What a request for texts asks: its body, checked and in the terms of the evaluation core."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.requests import GenerateRequest
from runtime_matrix.experiments.serving.errors import ApiError
from runtime_matrix.experiments.serving.fields import Fields
from runtime_matrix.experiments.serving.served import Served

_DEFAULT_TOKENS = 16  # of the OpenAI API, for completions
_MOST_STOPS, _MOST_SAMPLES, _MOST_TOKENS = 16, 128, 1 << 20
_MOST_DESCRIBED = 1 << 20  # log-probabilities of a reply
# Fields of clients that change no text here.
_WITHOUT_EFFECT: tuple[str, ...] = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "cache_prompt",
)
_WITHOUT_EFFECT += ("request_id", "skip_special_tokens", "spaces_between_special_tokens", "parallel_tool_calls")
# Fields that change a text, with the values that do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "logit_bias": ({},),
    "suffix": ("",),
    "use_beam_search": (False,),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "include_stop_str_in_output": (False,),
    "truncate_prompt_tokens": (),
    "length_penalty": (1,),
}


@dataclass(frozen=True)
class Question:
    """A request for texts. `alternatives` and `prompt_alternatives` are numbers of likeliest tokens; None: none."""

    prompts: tuple[tuple[int, ...], ...]
    texts: tuple[str | None, ...]  # of the prompts, if they were sent as texts
    max_tokens: int
    temperature: float
    top_p: float
    seeds: tuple[int, ...]
    stop: tuple[str, ...]
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    alternatives: int | None
    prompt_alternatives: int | None  # of `prompt_logprobs`
    echo: bool
    return_ids: bool
    tokens_as_ids: bool  # tokens are shown as token_id:N
    is_chat: bool

    @property
    def requests(self) -> list[GenerateRequest]:
        """The requests of the evaluation core; none if no token is asked for."""
        if not self.max_tokens:
            return []
        return [
            GenerateRequest(ids, self.max_tokens, self.stop, self.temperature, self.top_p, self.seeds, self.ignore_eos)
            for ids in self.prompts
        ]

    @property
    def described(self) -> int | None:
        """How many likeliest tokens are wanted of each position of the prompts; None: they are not described."""
        echoed = self.alternatives if self.echo else None
        counts = [count for count in (echoed, self.prompt_alternatives) if count is not None]
        return max(counts, default=None)


def completion(body: Any, served: Served) -> Question:
    """Return what a body for /v1/completions asks. Raises ApiError."""
    fields = Fields(body)
    with_bos = fields.flag("add_special_tokens", True)
    prompts, texts = _prompts(fields.raw("prompt"), served, with_bos)
    max_tokens = fields.integer("max_tokens", 0, _MOST_TOKENS)
    alternatives = fields.raw("logprobs")
    if isinstance(alternatives, bool):
        raise ApiError("logprobs must be a number of likeliest tokens", param="logprobs")
    given = {"logprobs": alternatives}
    return _question(
        fields,
        served,
        prompts,
        texts,
        max_tokens=_DEFAULT_TOKENS if max_tokens is None else max_tokens,
        alternatives=Fields(given).integer("logprobs", 0, _MOST_TOKENS),
        echo=fields.flag("echo"),
        is_chat=False,
    )


def chat(body: Any, served: Served) -> Question:
    """Return what a body for /v1/chat/completions asks. Raises ApiError."""
    fields = Fields(body)
    messages = fields.raw("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError("messages must be a list of objects with role and content", param="messages")
    ids = served.chat([_plain(message) for message in messages])
    limits = [fields.integer(name, 1, _MOST_TOKENS) for name in ("max_tokens", "max_completion_tokens")]
    room = max(1, (served.max_length or len(ids) + _DEFAULT_TOKENS) - len(ids))
    wanted, count = fields.flag("logprobs"), fields.integer("top_logprobs", 0, _MOST_TOKENS)
    if count and not wanted:
        raise ApiError("top_logprobs needs logprobs=true", param="top_logprobs")
    return _question(
        fields,
        served,
        (ids,),
        (None,),
        max_tokens=next((limit for limit in limits if limit is not None), room),
        alternatives=(count or 0) if wanted else None,
        echo=False,
        is_chat=True,
    )


def _question(
    fields: Fields,
    served: Served,
    prompts: tuple[tuple[int, ...], ...],
    texts: tuple[str | None, ...],
    *,
    max_tokens: int,
    alternatives: int | None,
    echo: bool,
    is_chat: bool,
) -> Question:
    check_model(fields, served)
    samples = fields.integer("n", 1, _MOST_SAMPLES) or 1
    fields.refuse_unless("best_of", (samples,))
    seed = fields.integer("seed", -(2**63), 2**64 - 1)
    seed = secrets.randbits(63) if seed is None else seed
    options = fields.inner("stream_options")
    ignore_eos = fields.flag("ignore_eos")
    fields.refuse_unless("min_tokens", (0, max_tokens) if ignore_eos else (0,))
    question = Question(
        prompts=prompts,
        texts=texts,
        max_tokens=max_tokens,
        temperature=fields.number("temperature", 1.0, 0.0, 100.0),
        top_p=fields.number("top_p", 1.0, 0.0, 1.0),
        seeds=tuple(seed + sample for sample in range(samples)),
        stop=_stops(fields.raw("stop"), served),
        ignore_eos=ignore_eos,
        stream=fields.flag("stream"),
        include_usage=options.flag("include_usage"),
        continuous_usage=options.flag("continuous_usage_stats"),
        alternatives=_clipped(alternatives, served),
        prompt_alternatives=_clipped(fields.integer("prompt_logprobs", 0, _MOST_TOKENS), served),
        echo=echo,
        return_ids=fields.flag("return_token_ids"),
        tokens_as_ids=fields.flag("return_tokens_as_token_ids"),
        is_chat=is_chat,
    )
    options.drop(("include_obfuscation",))
    options.refuse_rest()
    for name, neutral in _NEUTRAL.items():
        fields.refuse_unless(name, neutral)
    fields.drop(_WITHOUT_EFFECT)
    fields.refuse_rest()
    _check_size(question, served)
    return question


def check_model(fields: Fields, served: Served) -> None:
    """Raise ApiError if a model is named that is not served."""
    model = fields.text("model")
    if model is not None and model != served.name:
        raise ApiError(f"the model {model[:60]!r} is not served; {served.name!r} is", status=404, param="model")


def _check_size(question: Question, served: Served) -> None:
    for ids in question.prompts:
        served.check_length(len(ids), question.max_tokens)
    texts = len(question.prompts) * len(question.seeds)
    if texts > served.scheduler.limits.max_requests:
        raise ApiError(f"{texts} texts exceed serve.max_requests={served.scheduler.limits.max_requests}: send fewer")
    described = (question.alternatives or 0) * question.max_tokens * texts
    described += (question.described or 0) * sum(map(len, question.prompts))
    if described > _MOST_DESCRIBED:
        raise ApiError(f"{described} log-probabilities exceed {_MOST_DESCRIBED}: ask for fewer", param="logprobs")
    if question.stream and question.described is not None:
        raise ApiError("log-probabilities of a prompt are not streamed: leave stream out", param="stream")
    if question.stream and not question.max_tokens:
        raise ApiError("a stream needs at least one new token: raise max_tokens", param="max_tokens")


def _prompts(prompt: Any, served: Served, with_bos: bool) -> tuple[tuple[tuple[int, ...], ...], tuple[str | None, ...]]:
    """Return the ids of each prompt, and its text if it was sent as one."""
    if prompt is None:
        raise ApiError("prompt is missing: send a text, token ids, or a list of either", param="prompt")
    is_one = isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int))
    parts = [prompt] if is_one else prompt
    if not isinstance(parts, list) or not parts:
        raise ApiError("prompt must be a text, token ids, or a list of either", param="prompt")
    if len(parts) > served.scheduler.limits.max_requests:
        raise ApiError(
            f"{len(parts)} prompts exceed serve.max_requests={served.scheduler.limits.max_requests}: send fewer",
            param="prompt",
        )
    ids, texts = [], []
    for part in parts:
        if isinstance(part, str):
            ids.append(served.encode(part, with_bos))
        elif isinstance(part, list):
            ids.append(served.check_ids(part, "prompt"))
        else:
            raise ApiError("prompt must be a text, token ids, or a list of either", param="prompt")
        texts.append(part if isinstance(part, str) else None)
    return tuple(ids), tuple(texts)


def _clipped(count: int | None, served: Served) -> int | None:
    """Return a number of likeliest tokens; there are no more than the vocabulary has."""
    return None if count is None else min(count, served.traits.vocabulary)


def _stops(value: Any, served: Served) -> tuple[str, ...]:
    stops: Sequence[Any] = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise ApiError(f"stop must be a text or a list of at most {_MOST_STOPS} texts", param="stop")
    if stops:
        served.tokenizer("stop")
    return tuple(stops)


def _plain(message: JsonObject) -> JsonObject:
    """Return a message whose content is one text; ApiError for images and the like."""
    if not isinstance(message.get("role"), str):
        raise ApiError("a message must have a role", param="messages")
    content = message.get("content")
    if not isinstance(content, list):
        return message
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise ApiError("the content of a message must be text", param="messages")
    return {**message, "content": "".join(part["text"] for part in content)}

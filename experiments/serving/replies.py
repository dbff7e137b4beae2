"""The bodies of replies and of the events of a stream, in the form of the OpenAI API with vLLM's additions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs
from runtime_matrix.experiments.evaluation.requests import Generated
from runtime_matrix.experiments.serving.questions import Question
from runtime_matrix.experiments.serving.served import Served


@dataclass
class Collected:
    """The text of one choice, as it grows."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    likeliest: list[TokenLogprobs] = field(default_factory=list)
    result: Generated | None = None


@dataclass(frozen=True)
class Form:
    """Writes the replies to one question."""

    question: Question
    served: Served
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def reply(self, texts: Sequence[Collected], described: Sequence[Sequence[TokenLogprobs]] | None) -> JsonObject:
        """Return the whole reply; `texts` has the samples of each prompt, prompt after prompt."""
        samples = len(self.question.seeds)
        choices = [
            self._choice(index, text, index // samples, described[index // samples] if described else None)
            for index, text in enumerate(texts)
        ]
        return {**self._head(is_chunk=False), "choices": choices, "usage": self.usage([len(t.ids) for t in texts])}

    def chunk(self, index: int, added: Collected, offset: int) -> JsonObject:
        """Return an event with what was added to a choice, whose text had `offset` characters before."""
        choice: JsonObject = {"index": index}
        if self.question.is_chat:
            choice |= {"delta": {"content": added.text}, "logprobs": self._chat_logprobs(added.likeliest)}
        else:
            choice |= {"text": added.text, "logprobs": self._logprobs(added.likeliest, offset)}
        choice["finish_reason"] = _reason(added.result)
        if self.question.return_ids:
            choice["token_ids"] = added.ids
        return {**self._head(is_chunk=True), "choices": [choice]}

    def role(self, index: int) -> JsonObject:
        """Return the first event of a chat's choice."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head(is_chunk=True), "choices": [choice]}

    def last(self, new_tokens: Sequence[int]) -> JsonObject:
        """Return the event with the counts, which has no choices."""
        return {**self._head(is_chunk=True), "choices": [], "usage": self.usage(new_tokens)}

    def usage(self, new_tokens: Sequence[int]) -> JsonObject:
        """Return the counts, with the new tokens of each choice. No prompt is cached between requests."""
        prompts, new = sum(map(len, self.question.prompts)), sum(new_tokens)
        return {
            "prompt_tokens": prompts,
            "completion_tokens": new,
            "total_tokens": prompts + new,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def _head(self, *, is_chunk: bool) -> JsonObject:
        if self.question.is_chat:
            kind, prefix = "chat.completion.chunk" if is_chunk else "chat.completion", "chatcmpl"
        else:
            kind, prefix = "text_completion", "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.served.name}

    def _choice(
        self, index: int, text: Collected, prompt: int, described: Sequence[TokenLogprobs] | None
    ) -> JsonObject:
        question, ids = self.question, self.question.prompts[prompt]
        choice: JsonObject = {"index": index}
        if question.is_chat:
            choice["message"] = {"role": "assistant", "content": text.text, "refusal": None}
            choice["logprobs"] = self._chat_logprobs(text.likeliest)
        else:
            before = (question.texts[prompt] or self.served.decode(ids)) if question.echo else ""
            choice["text"] = before + text.text
            echoed = described if question.echo else None
            choice["logprobs"] = self._logprobs(text.likeliest, len(before), ids if question.echo else (), echoed)
        choice["finish_reason"] = _reason(text.result) or "length"
        if question.return_ids:
            choice |= {"token_ids": text.ids, "prompt_token_ids": list(ids)}
        if question.prompt_alternatives is not None and described is not None:
            rows = [self._by_id(token, question.prompt_alternatives) for token in described]
            choice["prompt_logprobs"] = [None, *rows]
        return choice

    def _logprobs(
        self,
        tokens: Sequence[TokenLogprobs],
        offset: int,
        prompt: Sequence[int] = (),
        described: Sequence[TokenLogprobs] | None = None,
    ) -> JsonObject | None:
        """Return the arrays of the older API. With `prompt`, its tokens come first; its first token has no value."""
        count = self.question.alternatives
        if count is None:
            return None
        name, rows = self._name, [*(described or ()), *tokens]
        first = list(prompt[:1])
        names = [name(token) for token in [*first, *(row.id for row in rows)]]
        tops: list[JsonObject] = [{} for _ in rows]
        for top, row in zip(tops, rows, strict=True):
            for token, value in _with_own(row, count):
                top.setdefault(name(token), value)  # of tokens that look alike, the likeliest
        return {
            "tokens": names,
            "token_logprobs": [*[None for _ in first], *(row.logprob for row in rows)],
            "top_logprobs": [*[None for _ in first], *tops],
            "text_offset": self._offsets([*first, *(row.id for row in rows)], 0 if first else offset),
        }

    def _chat_logprobs(self, tokens: Sequence[TokenLogprobs]) -> JsonObject | None:
        count = self.question.alternatives
        if count is None:
            return None

        def entry(token: int, logprob: float) -> JsonObject:
            name = self._name(token)
            return {"token": name, "logprob": logprob, "bytes": list(name.encode())}

        content = [
            {**entry(row.id, row.logprob), "top_logprobs": [entry(i, value) for i, value in row.likeliest[:count]]}
            for row in tokens
        ]
        return {"content": content, "refusal": None}

    def _by_id(self, row: TokenLogprobs, count: int) -> JsonObject:
        """Return a token of a prompt in vLLM's form."""
        tops = {
            str(token): {"logprob": value, "rank": place, "decoded_token": self.served.shown(token)}
            for place, (token, value) in enumerate(row.likeliest[:count], 1)
        }
        own = {"logprob": row.logprob, "rank": row.rank, "decoded_token": self.served.shown(row.id)}
        return {str(row.id): own, **{key: value for key, value in tops.items() if key != str(row.id)}}

    def _offsets(self, ids: Sequence[int], start: int) -> list[int]:
        """Return where each token begins in the text, which has no special tokens."""
        offsets = []
        for token in ids:
            offsets.append(start)
            start += len(self.served.decode([token]))
        return offsets

    @property
    def _name(self) -> Callable[[int], str]:
        return (lambda token: f"token_id:{token}") if self.question.tokens_as_ids else self.served.shown


def _with_own(row: TokenLogprobs, count: int) -> list[tuple[int, float]]:
    """Return the likeliest tokens, and the token itself, which may not be among them."""
    tops = list(row.likeliest[:count])
    return tops if any(token == row.id for token, _ in tops) else [*tops, (row.id, row.logprob)]


def _reason(result: Generated | None) -> str | None:
    return None if result is None else "length" if result.finished_by == "length" else "stop"

"""What is served: a loaded runtime with its tokenizer, and how texts of requests become token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.continuous import ContinuousBatching
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.serving.errors import ApiError
from runtime_matrix.runtimes.base import Runtime, Traits

Render = Callable[[list[JsonObject]], str]  # turns the messages of a chat into its text


@dataclass(frozen=True)
class Served:
    """A loaded model. Only `scheduler` calls the runtime."""

    name: str
    runtime: Runtime
    traits: Traits
    text: Text | None  # None: the model has no tokenizer
    render: Render | None  # None: the model has no chat template
    max_length: int | None  # tokens of a prompt with its text
    scoring: ScoringConfig
    scheduler: ContinuousBatching

    def tokenizer(self, purpose: str) -> Text:
        """Return the tokenizer; ApiError if there is none."""
        if self.text is None:
            raise ApiError(f"the model has no tokenizer, which {purpose} needs: send token ids to /v1/completions")
        return self.text

    def encode(self, text: str, with_bos: bool) -> tuple[int, ...]:
        """Return the ids of a text, with the beginning-of-text id if the model has one and it is asked for."""
        tokenizer = self.tokenizer("a text")
        try:
            ids = tokenizer.encode(text)
        except (TypeError, ValueError) as error:
            raise ApiError(f"the text cannot be tokenized: {str(error)[:100]}", param="prompt") from None
        first = [tokenizer.bos_id] if with_bos and tokenizer.bos_id is not None else []
        return (*first, *ids)

    def chat(self, messages: list[JsonObject]) -> tuple[int, ...]:
        """Return the ids of a chat that waits for its answer."""
        if self.render is None:
            raise ApiError("the model has no chat template: use /v1/completions, or serve.chat_template=FILE")
        try:
            text = self.render(messages)
        except Exception as error:  # templates raise anything about messages that do not suit them
            raise ApiError(f"the chat template refuses the messages: {str(error)[:200]}", param="messages") from None
        return self.encode(text, with_bos=False)  # the template writes it

    def check_ids(self, ids: Sequence[Any], where: str) -> tuple[int, ...]:
        """Return token ids of a request; ApiError if they are none."""
        for token in ids:
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < self.traits.vocabulary:
                raise ApiError(
                    f"{where} has {str(token)[:20]!r}: token ids are integers from 0 to {self.traits.vocabulary - 1}",
                    param=where,
                )
        return tuple(ids)

    def check_length(self, prompt: int, new_tokens: int) -> None:
        """Raise ApiError if a prompt and its text do not fit."""
        if prompt == 0:
            raise ApiError("the prompt is empty: give at least one token", param="prompt")
        if self.max_length is not None and prompt + new_tokens > self.max_length:
            raise ApiError(
                f"{prompt} tokens of the prompt and {new_tokens} new ones exceed the {self.max_length} tokens that the "
                "model takes: shorten the prompt or lower max_tokens",
                param="max_tokens" if prompt < self.max_length else "prompt",
            )

    def shown(self, token: int) -> str:
        """Return a token as text; without a tokenizer, its id."""
        return self.text.shown(token) if self.text is not None else f"token_id:{token}"

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; empty without a tokenizer."""
        return self.text.decode(ids) if self.text is not None else ""

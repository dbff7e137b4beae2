"""A language model in two lines of arithmetic: what the fake server serves, and what its replies are compared with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_SLOPE = 0.2  # nats by which each token is less likely than the one before it in the order


@dataclass(frozen=True)
class ToyModel:
    """The likeliest next token depends on the last two and the length; each other follows in a circle, less likely."""

    vocabulary: int = 128
    eos: int = 0

    def top(self, ids: Sequence[int]) -> int:
        """Return the likeliest next token."""
        before = ids[-2] if len(ids) > 1 else 1
        return (5 * ids[-1] + 3 * before + 11 * len(ids)) % self.vocabulary

    def margin(self, ids: Sequence[int], token: int) -> float:
        """Return how much less likely a next token is than the likeliest, in nats."""
        return _SLOPE * ((token - self.top(ids)) % self.vocabulary)

    def logprob(self, ids: Sequence[int], token: int) -> float:
        """Return the log-probability of a next token, in nats."""
        total = math.expm1(-_SLOPE * self.vocabulary) / math.expm1(-_SLOPE)  # of a geometric series
        return -self.margin(ids, token) - math.log(total)

    def order(self, ids: Sequence[int], count: int) -> list[int]:
        """Return the likeliest next tokens, the likeliest first."""
        return [(self.top(ids) + step) % self.vocabulary for step in range(min(count, self.vocabulary))]

    def text(
        self, ids: Sequence[int], new_tokens: int, *, end: str = "ends", seed: int | None = None
    ) -> tuple[list[int], bool]:
        """Return the new tokens, the end-of-text token included, and whether it ended the text.

        `end`: "ends", "ignored" or "banned", see `Capabilities.end_of_text`. With a seed, tokens are drawn.
        """
        source = random.Random(f"{seed} {list(ids)}")
        new: list[int] = []
        while len(new) < new_tokens:
            order = self.order([*ids, *new], 8)
            if end == "banned":
                order = [token for token in order if token != self.eos]
            token = order[0] if seed is None else source.choice(order)
            new.append(token)
            if token == self.eos and end == "ends":
                return new, True
        return new, False

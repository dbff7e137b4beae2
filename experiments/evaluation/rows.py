"""A text in the making: what was asked, the tokens so far, and how its next token is chosen.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import torch

from runtime_matrix.experiments.evaluation.finite import check_numbers, read_highest
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.speculation import History

Piece = Callable[[int], str]  # the text that a token adds


class Row:
    """A text in the making."""

    def __init__(self, index: int, sample: int, request: GenerateRequest, piece: Piece):
        self.index, self.sample, self.request = index, sample, request
        self.ids: list[int] = []
        self.history: History | None = None  # kept where somebody guesses by it
        self.text = ""
        self.random = random.Random(request.seeds[sample])
        self._piece = piece
        self._longest = max(map(len, request.stop), default=0)

    def add(self, token: int, eos_ids: frozenset[int]) -> Generated | None:
        """Take over a token; return the result when it is the last one."""
        if token in eos_ids:
            return Generated(tuple(self.ids), self.text, "eos")
        self.ids.append(token)
        if self.history is not None:
            self.history.add(token)
        start = max(0, len(self.text) - self._longest + 1)  # a stop string may have begun in the text so far
        self.text += self._piece(token)
        found = [at for stop in self.request.stop if (at := self.text.find(stop, start)) >= 0]
        if found:
            return Generated(tuple(self.ids), self.text[: min(found)], "stop")
        if len(self.ids) == self.request.max_new_tokens:
            return Generated(tuple(self.ids), self.text, "length")
        return None


def choose(logits_BV: torch.Tensor, rows: Mapping[int, Row]) -> list[int]:
    """Return the next token of each row, by its place: the likeliest, or one drawn with its temperature and seed.

    Waits for the device once. FloatingPointError for logits of these rows that are not finite.
    """
    sampled = [at for at, row in rows.items() if row.request.temperature > 0]
    if sampled:
        logits_BV = logits_BV.cpu()
    highest, tokens = read_highest(logits_BV)
    check_numbers([highest[at] for at in rows], "a generated token")
    drawn = _sample(logits_BV[sampled].double(), [rows[at] for at in sampled]) if sampled else []
    said = dict(zip(sampled, drawn, strict=True))
    return [said.get(at, tokens[at]) for at in rows]


def _sample(logits_BV: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Draw by the inverse of the distribution function, with each row's own random number."""
    temperature_B1 = torch.tensor([[row.request.temperature] for row in rows], dtype=torch.float64)
    top_p_B1 = torch.tensor([[row.request.top_p] for row in rows], dtype=torch.float64)
    probabilities_BV, order_BV = (logits_BV / temperature_B1).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before_BV = probabilities_BV.cumsum(dim=1) - probabilities_BV
    kept_BV = probabilities_BV.masked_fill(before_BV >= top_p_B1, 0.0)  # the likeliest is always kept
    drawn_B1 = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64)
    sums_BV = kept_BV.cumsum(dim=1)
    at_B1 = torch.searchsorted(sums_BV, drawn_B1 * sums_BV[:, -1:], right=True)
    last_B1 = (kept_BV > 0).sum(dim=1, keepdim=True) - 1  # rounding must not draw what was not kept
    return order_BV.gather(1, torch.minimum(at_B1, last_B1))[:, 0].tolist()

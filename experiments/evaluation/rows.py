"""A row of a generation batch: its request, its tokens so far, and the choice of its next token.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import torch

from runtime_matrix.experiments.evaluation.finite import check_numbers, read_highest
from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.speculation import History

Piece = Callable[[int], str]  # the text that a token adds


class Row:
    """A text that is being generated. `index` is its request's, `sample` its seed's."""

    def __init__(self, index: int, sample: int, request: GenerateRequest, piece: Piece):
        self.index, self.sample, self.request = index, sample, request
        self.ids: list[int] = []
        self.history: History | None = None  # only for speculative decoding
        self.text = ""
        self.alternatives: int | None = None  # how many likeliest tokens `likeliest` has of each position; None: none
        self.likeliest: list[TokenLogprobs] = []
        self.random = random.Random(request.seeds[sample])
        self._piece = piece
        self._longest = max(map(len, request.stop), default=0)

    @property
    def needs_host(self) -> bool:
        """Whether each token is chosen or described on the host, so that none can be guessed or run ahead."""
        return self.request.temperature > 0 or self.alternatives is not None

    def add(self, token: int, eos_ids: frozenset[int]) -> Generated | None:
        """Append a token; return the result if the text is finished, otherwise None."""
        if token in eos_ids and not self.request.ignore_eos:
            return Generated(tuple(self.ids), self.text, "eos")
        self.ids.append(token)
        if self.history is not None:
            self.history.add(token)
        start = max(0, len(self.text) - self._longest + 1)  # a stop string may begin in the earlier text
        self.text += self._piece(token)
        stops = [at for stop in self.request.stop if (at := self.text.find(stop, start)) >= 0]
        if stops:
            return Generated(tuple(self.ids), self.text[: min(stops)], "stop")
        if len(self.ids) == self.request.max_new_tokens:
            return Generated(tuple(self.ids), self.text, "length")
        return None


def choose(logits_BV: torch.Tensor, rows: Mapping[int, Row]) -> list[int]:
    """Return the next token of each row: the likeliest, or a sample with the row's temperature and seed.

    `rows` maps an index into the batch to its row. Waits for the device once. Raises FloatingPointError if logits of
    these rows are not finite.
    """
    sampled = [at for at, row in rows.items() if row.request.temperature > 0]
    if sampled:
        logits_BV = logits_BV.cpu()
    highest, tokens = read_highest(logits_BV)
    check_numbers([highest[at] for at in rows], "a generated token")
    sampled_tokens = _sample(logits_BV[sampled].double(), [rows[at] for at in sampled]) if sampled else []
    token_by_row = dict(zip(sampled, sampled_tokens, strict=True))
    return [token_by_row.get(at, tokens[at]) for at in rows]


def _sample(logits_BV: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Sample by inverse transform, with one random number per row."""
    temperature_B1 = torch.tensor([[row.request.temperature] for row in rows], dtype=torch.float64)
    top_p_B1 = torch.tensor([[row.request.top_p] for row in rows], dtype=torch.float64)
    probabilities_BV, order_BV = (logits_BV / temperature_B1).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before_BV = probabilities_BV.cumsum(dim=1) - probabilities_BV
    kept_BV = probabilities_BV.masked_fill(before_BV >= top_p_B1, 0.0)  # the likeliest token always stays
    drawn_B1 = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64)
    sums_BV = kept_BV.cumsum(dim=1)
    at_B1 = torch.searchsorted(sums_BV, drawn_B1 * sums_BV[:, -1:], right=True)
    last_B1 = (kept_BV > 0).sum(dim=1, keepdim=True) - 1  # rounding must not select a token outside top-p
    return order_BV.gather(1, torch.minimum(at_B1, last_B1))[:, 0].tolist()

"""The scores of tokens beside their logits, reduced while a `transformers` module runs: see `base.Outputs`.

The scores are those of ReDeEP (Sun et al. 2024, arXiv 2410.11414). Attentions are computed for the requested tokens
only and reduced at once, so no (T, T) matrix is kept, whichever attention kernel the module uses. What is kept until
the last layer: for each head the indices of the context tokens that it attends to most, and for each layer the states
before and after its feed-forward network, at the requested tokens.

Shapes: B rows, T tokens, K requested positions, S keys, C context tokens, A attended tokens, L layers, H query heads,
G key-value heads, R = H / G, D head width, E hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runtime_matrix.runtimes.base import ATTENDED_ONE_IN

_MOST_LOGITS = 1 << 25  # of a layer at once: 128 MiB in float32
_LAYERS, _NORMS = ("layers", "h"), ("norm", "ln_f", "final_layernorm")


class Observation:
    """What one forward collects. `context_B2` holds the first and the end of each row's context.

    `most` is the largest number of attended tokens of a row; None: unknown, as in an exported graph.
    """

    def __init__(self, at_BK: torch.Tensor, context_B2: torch.Tensor, most: int | None = None):
        self._at_BK, self._context_B2, self._most = at_BK, context_B2, most
        self._attended: list[
            tuple[torch.Tensor, torch.Tensor]
        ] = []  # (index, is attended), (B, H, K, A), of each layer
        self._before: list[torch.Tensor] = []  # (B, K, E) of each layer
        self._after: list[torch.Tensor] = []
        self._last_BTE: torch.Tensor | None = None

    @classmethod
    def of(cls, at_BK: torch.Tensor, contexts: Sequence[range]) -> Observation:
        """Return the observation of a forward; `contexts` are checked."""
        ends = torch.tensor([[context.start, context.stop] for context in contexts])
        most = max(max(1, len(context) // ATTENDED_ONE_IN) for context in contexts)
        return cls(at_BK, ends.to(at_BK.device), most)

    def add_queries(
        self, query_BHTD: torch.Tensor, key_BGSD: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
    ) -> None:
        """Add a layer's attention by its queries and keys. `mask` is boolean (B, 1, T, S), True where a key is seen."""
        rows, heads, _, width = query_BHTD.shape
        groups = key_BGSD.shape[1]
        wanted_BHKD = self._at_positions(query_BHTD, 2) * (width**-0.5 if scaling is None else scaling)
        folded = wanted_BHKD.reshape(rows, groups, -1, width)
        self._add(torch.matmul(folded, key_BGSD.transpose(2, 3)).view(rows, heads, -1, key_BGSD.shape[2]), mask)

    def add_weights(self, weights_BHTS: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Add a layer's attention weights; `mask` as in `add_queries`, since the weight of a masked key is only 0."""
        self._add(self._at_positions(weights_BHTS, 2), mask)

    def _add(self, scores_BHKS: torch.Tensor, mask: torch.Tensor | None) -> None:
        slot_S = torch.arange(scores_BHKS.shape[3], device=scores_BHKS.device)
        start_B1, end_B1 = self._context_B2.to(scores_BHKS.device).split(1, dim=1)
        seen_BHKS = ((slot_S >= start_B1) & (slot_S < end_B1))[:, None, None]
        if mask is not None:
            seen_BHKS = seen_BHKS & self._at_positions(mask.expand(scores_BHKS.shape[0], -1, -1, -1), 2)
        scores_BHKS = scores_BHKS.float().masked_fill(~seen_BHKS, -torch.inf)
        most = self._most if self._most is not None else scores_BHKS.shape[3]
        highest_BHKA, index_BHKA = scores_BHKS.topk(most, dim=3)
        count_B1 = ((end_B1 - start_B1) // ATTENDED_ONE_IN).clamp(min=1)
        is_attended_BHKA = (slot_S[:most] < count_B1)[:, None, None] & (highest_BHKA > -torch.inf)
        self._attended.append((index_BHKA.int() if self._most is not None else index_BHKA, is_attended_BHKA))

    def add_states(self, kind: str, states_BTE: torch.Tensor) -> None:
        """Add the states `before` or `after` the feed-forward network of a layer."""
        (self._before if kind == "before" else self._after).append(self._at_positions(states_BTE, 1))

    def set_last(self, states_BTE: torch.Tensor) -> None:
        """Set the states after the final norm."""
        self._last_BTE = states_BTE

    def external_context(self) -> torch.Tensor:
        """Return (B, K, L, H): see `base.Outputs`. 0 where a head sees no token of the context."""
        assert self._last_BTE is not None
        last_BTE = self._last_BTE.float()
        own_BKE = self._at_positions(last_BTE, 1)
        layers = []
        for index_BHKA, is_attended_BHKA in self._attended:
            rows, heads, wanted, _ = index_BHKA.shape
            chosen = torch.zeros(rows, heads, wanted, last_BTE.shape[1], device=last_BTE.device)
            index, is_attended = index_BHKA.to(last_BTE.device).long(), is_attended_BHKA.to(last_BTE.device)
            chosen = chosen.scatter(3, index, is_attended.float())
            # The cosine of a sum is that of the mean.
            sums_BHKE = torch.matmul(chosen.flatten(1, 2), last_BTE).view(rows, heads, wanted, -1)
            layers.append(torch.cosine_similarity(sums_BHKE, own_BKE[:, None], dim=3).transpose(1, 2))
        return torch.stack(layers, dim=2)

    def parametric_knowledge(self, norm: Callable[[Any], Any], head: Callable[[Any], Any]) -> torch.Tensor:
        """Return (B, K, L): see `base.Outputs`. `norm` and `head` are the model's final norm and output embeddings."""
        layers = []
        for before_BKE, after_BKE in zip(self._before, self._after, strict=True):
            layers.append(_divergence(before_BKE, after_BKE, lambda states: head(norm(states)), self._most is None))
        return torch.stack([layer.to(layers[-1].device) for layer in layers], dim=2)

    def _at_positions(self, values: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the values at the requested positions of dimension `dim`; the first dimension is that of the rows."""
        at = self._at_BK.to(values.device)
        for _ in range(dim - 1):
            at = at[:, None]
        at = at[..., None].expand(*values.shape[:dim], -1, values.shape[dim + 1])
        return values.gather(dim, at)


def _divergence(
    before_BKE: torch.Tensor, after_BKE: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], at_once: bool
) -> torch.Tensor:
    """Return (B, K): the Jensen-Shannon divergence in nats of the distributions that the two states predict."""
    if at_once:
        return _jensen_shannon(logits(before_BKE), logits(after_BKE))
    rows, wanted, _ = before_BKE.shape
    vocabulary = logits(before_BKE[:1, :1]).shape[2]
    step = max(1, _MOST_LOGITS // (rows * vocabulary))
    parts = [
        _jensen_shannon(logits(before_BKE[:, start : start + step]), logits(after_BKE[:, start : start + step]))
        for start in range(0, wanted, step)
    ]
    return torch.cat(parts, dim=1)


def _jensen_shannon(first_BKV: torch.Tensor, second_BKV: torch.Tensor) -> torch.Tensor:
    first, second = first_BKV.float().log_softmax(dim=-1), second_BKV.float().log_softmax(dim=-1)
    mean = torch.logaddexp(first, second) - 0.6931471805599453  # ln 2
    return ((first.exp() * (first - mean)).sum(-1) + (second.exp() * (second - mean)).sum(-1)) / 2


def can_observe(module: Any) -> bool:
    """Return whether the module has the parts that the scores are read from."""
    base = module.base_model
    layers = _first(base, _LAYERS)
    return bool(
        getattr(module, "_supports_attention_backend", False)
        and layers
        and _first(base, _NORMS) is not None
        and all(_input_of_feed_forward(layer) is not None for layer in layers)
    )


def register(module: Any, current: Callable[[], Observation | None]) -> None:
    """Register hooks that add the states of a forward to its observation, which `current` returns; None: to none.

    The attention function adds the attentions.
    """
    base = module.base_model

    def adding(kind: str, states: Any) -> None:
        observation = current()
        if observation is not None:
            observation.add_states(kind, states)

    for layer in _first(base, _LAYERS):
        part = _input_of_feed_forward(layer)
        part.register_forward_pre_hook(lambda part, inputs: adding("before", inputs[0]))
        layer.register_forward_hook(lambda layer, inputs, output: adding("after", _hidden(output)))

    def set_last(base: Any, inputs: Any, output: Any) -> None:
        observation = current()
        if observation is not None:
            observation.set_last(_hidden(output))

    base.register_forward_hook(set_last)


def final_norm(module: Any) -> Any:
    """Return the module's final norm."""
    return _first(module.base_model, _NORMS)


def _hidden(output: Any) -> torch.Tensor:
    """Return the hidden states of a layer's or a model's output, in any of transformers' forms."""
    hidden: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return hidden


def _input_of_feed_forward(layer: Any) -> Any:
    """Return the part of a layer whose input is the state before the feed-forward network; None: unknown layout."""
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 and later
        return layer.pre_feedforward_layernorm
    if hasattr(layer, "post_feedforward_layernorm"):  # OLMo 2: the norm follows the network
        return getattr(layer, "mlp", None)
    return getattr(layer, "post_attention_layernorm", None) or getattr(layer, "ln_2", None)


def _first(part: Any, names: Sequence[str]) -> Any:
    return next((getattr(part, name) for name in names if hasattr(part, name)), None)

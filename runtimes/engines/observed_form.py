"""The form of exported graph without a cache whose outputs are all of `base.Outputs`.

Inputs: ids_BT, at_BK, and context_B2, the first and the end of each row's context. Outputs: logits (B, K, V),
external_context (B, K, L, H), parametric_knowledge (B, K, L). Shapes: see `observation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE, Unsupported
from runtime_matrix.runtimes.engines import observation
from runtime_matrix.runtimes.engines.graph_forms import Graph
from runtime_matrix.runtimes.engines.grouped_attention import attend_by_products, can_group, register
from runtime_matrix.runtimes.engines.masks import causal
from runtime_matrix.runtimes.engines.observation import Observation

_ATTENTION = "runtime_matrix_observed_products"
_ROWS, _TOKENS, _WANTED = 2, 31, 3  # they differ and exceed 1, so that the exporter keeps them apart
_VERSION = 1  # to be increased when the graph changes


@dataclass(frozen=True)
class Observed:
    """The form of this file."""

    opset: int = 20

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that distinguishes graphs of this form from others; part of the artifact key."""
        return {"form": "observed", "version": _VERSION}

    def graph(self, module: Any) -> Graph:
        """Return the module to export. Raises Unsupported for a model whose attention cannot be observed."""
        if not (can_group(module, "sdpa") and observation.can_observe(module)):
            raise Unsupported("this model's layers have no known place to read outputs other than logits from")
        return _ObservedGraph(module)


class _ObservedGraph(Graph):
    held_slots = 0

    def __init__(self, module: Any):
        super().__init__(module)
        self._seen: list[Observation] = []  # in a list, as `_at`; empty while the head is applied to other states
        register(_ATTENTION, _attend)
        module.config.get_text_config()._attn_implementation = _ATTENTION
        observation.register(module, lambda: self._seen[0] if self._seen else None)

    @property
    @override
    def held_names(self) -> list[str]:
        return []

    @property
    @override
    def output_names(self) -> list[str]:
        return ["logits", EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE]

    @override
    def example(self) -> Mapping[str, torch.Tensor]:
        return {
            "ids": torch.ones(_ROWS, _TOKENS, dtype=torch.long),
            "at": torch.full((_ROWS, _WANTED), _TOKENS - 1),
            "context": torch.tensor([[0, _TOKENS - 2]] * _ROWS),
        }

    @override
    def arguments(self) -> tuple[Any, ...]:
        return tuple(self.example().values())

    @override
    def dynamic(self) -> tuple[Any, ...]:
        rows, tokens, wanted = map(torch.export.Dim, "BTK")
        return {0: rows, 1: tokens}, {0: rows, 1: wanted}, {0: rows}

    @override
    def forward(self, ids: torch.Tensor, at: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        token = torch.arange(ids.shape[1])
        # Padding may have positions beyond the end of a learned position table.
        position = token if self.max_position is None else token.clamp(max=self.max_position - 1)
        seen = Observation(at, context)
        self._at, self._seen = [at], [seen]
        logits = self.module(
            input_ids=ids,
            attention_mask=causal(token, token.expand(ids.shape[0], -1), self.windows),
            position_ids=position.expand(ids.shape[0], -1),
            use_cache=False,
            observation=seen,
        ).logits
        self._at, self._seen = [], []
        head = self.module.get_output_embeddings()
        knowledge = seen.parametric_knowledge(observation.final_norm(self.module), head)
        return logits, seen.external_context(), knowledge

    @override
    def _gather(self, head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return super()._gather(head, inputs) if self._at else inputs


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    observation: Observation,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    observation.add_queries(query, key, attention_mask, others.get("scaling"))
    return attend_by_products(module, query, key, value, attention_mask, **others)

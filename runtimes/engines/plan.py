"""What one forward over a `transformers` module needs: a value, made at its beginning and handed to each step.

The module's hooks are called by transformers, which hands them no arguments of ours: they read `CURRENT`, which holds
the plan for as long as its forward runs, in its own thread alone.
Shapes: B rows, T new tokens, K wanted positions, M wanted tokens of all rows, N tokens of all rows, S visible slots.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.base import LOGITS
from runtime_matrix.runtimes.engines.shared_prefix import BranchCall, Packed
from runtime_matrix.runtimes.engines.slots import SlotCache, Span


@dataclass(frozen=True, eq=False)
class ForwardPlan:
    """All tensors lie on the device that computes."""

    ids_BT: torch.Tensor
    span: Span  # where the new tokens go
    at_BK: torch.Tensor  # indices into T: whose outputs are returned
    cache: SlotCache | None = None  # of a branch: its own slots; None: nothing is kept
    outputs: frozenset[str] = LOGITS  # what is returned, see `base.Traits`
    mask_BTS: torch.Tensor | None = None  # (B, 1, T, S); None: one token that sees all slots, or a causal square
    branch: BranchCall | None = None
    last_M: torch.Tensor | None = None  # what the last layer is run for, indices into all tokens; None: for all

    @property
    def packed(self) -> Packed | None:
        """Where the tokens of each row are in one row of all; None: the layers see (B, T)."""
        return self.branch.packed if self.branch is not None else None

    @property
    def shape(self) -> torch.Size:
        """The shape of what the layers see, without the width: (B, T), or (1, N) where rows are packed."""
        packed = self.packed
        return self.ids_BT.shape if packed is None else torch.Size((1, len(packed.row_N)))


CURRENT: ContextVar[ForwardPlan | None] = ContextVar("the plan of the forward that runs", default=None)

"""The plan of one forward over a `transformers` module: an immutable value, created at the start of the forward.

transformers calls the module's hooks and passes them no arguments of this project. Therefore the hooks read the context
variable `CURRENT`, which holds the plan during its forward, in its own thread only.
Shapes: B rows, T new tokens per row, K requested positions, M requested tokens of all rows, N tokens of all rows,
S visible slots.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import torch

from runtime_matrix.runtimes.engines.masks import Masks
from runtime_matrix.runtimes.engines.observation import Observation
from runtime_matrix.runtimes.engines.shared_prefix import BranchCall, Packed
from runtime_matrix.runtimes.engines.slots import SlotCache, Span


@dataclass(frozen=True, eq=False)
class ForwardPlan:
    """The inputs of one forward. All tensors are on the device that computes."""

    ids_BT: torch.Tensor
    span: Span  # where the new tokens go
    at_BK: torch.Tensor  # indices into T of the requested positions
    cache: SlotCache | None = None  # for a branch, its own slots; None: no keys and values are kept
    observation: Observation | None = None  # collects what outputs other than logits are computed from
    # (B, 1, T, S), or one for each layer type; None: one token that sees all slots, or attention without a past
    mask_BTS: Masks | None = None
    branch: BranchCall | None = None
    last_M: torch.Tensor | None = None  # indices of the tokens for which the last layer runs; None: all

    @property
    def packed(self) -> Packed | None:
        """Layout of the rows that are packed into one; None: the layers' input is (B, T)."""
        return self.branch.packed if self.branch is not None else None

    @property
    def shape(self) -> torch.Size:
        """Shape of the layers' input without the hidden width: (B, T), or (1, N) if rows are packed."""
        packed = self.packed
        return self.ids_BT.shape if packed is None else torch.Size((1, len(packed.row_N)))


CURRENT: ContextVar[ForwardPlan | None] = ContextVar("plan of the current forward", default=None)

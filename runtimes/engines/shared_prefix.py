"""Attention of many rows that share one prefix, which is stored once.

Attention over the prefix and over each row's own tokens is computed separately. The two results are merged by the
logarithms of their softmax denominators, which is exact (Juravsky et al. 2024, *Hydragen*, arXiv 2402.05099). One
matrix product covers the queries of all rows over the prefix. The tokens of new rows are packed into one row, so that
the layers process no padding.
Shapes: B rows, H query heads, G key-value heads, T new tokens per row, N new tokens of all rows, M requested tokens of
all rows, P tokens of the prefix, S own slots, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from runtime_matrix.runtimes.engines.rewind import check_rewind
from runtime_matrix.runtimes.engines.slots import SlotCache

_CANNOT = "this model's attention cannot share a prefix: set scoring.share_prefix=false"
_ALIKE = 0.75  # minimum ratio of the shortest to the longest row of a padded group


class Branch:
    """A cache of rows that continue row 0 of `trunk`; `own` holds the later tokens of each row."""

    def __init__(self, trunk: SlotCache, own: SlotCache):
        self.trunk, self.own = trunk, own
        self.shared_tokens = trunk.row_lengths[0]

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row, those of the prefix included."""
        return [self.shared_tokens + length for length in self.own.row_lengths]

    def select(self, rows: Sequence[int]) -> Branch:
        """Return a copy of the given rows, in that order."""
        return Branch(self.trunk, self.own.select(rows))

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer, or below the prefix."""
        check_rewind(self.lengths, lengths)
        self.own.rewind([length - self.shared_tokens for length in lengths])

    def replace(self, rows: Sequence[int], source: Branch) -> None:
        """Replace row `rows[i]` by row i of `source`. ValueError for rows of another prefix."""
        if source.trunk is not self.trunk:
            raise ValueError("rows of another prefix cannot replace rows of this one")
        self.own.replace(rows, source.own)

    def packed(self, lengths: Sequence[int], device: str) -> Packed | None:
        """Return the layout of packed rows of `lengths[b]` tokens; None if a row holds own tokens already."""
        return Packed(lengths, device) if not any(self.own.row_lengths) else None


class BranchCall:
    """The state of one forward of a branch; the model passes it to each layer as a keyword argument.

    `last_M` are the indices of the packed tokens for which the last layer runs; None: all.
    """

    def __init__(self, branch: Branch, packed: Packed | None, last_M: torch.Tensor | None):
        self._trunk, self._own, self._last_M = branch.trunk, branch.own, last_M
        self.packed, self.shared_tokens = packed, branch.shared_tokens
        self._attended = 0  # number of layers that have attended to the prefix

    def keep(self, layer: int, key_1GND: torch.Tensor, value_1GND: torch.Tensor) -> None:
        """Write the packed keys and values of new rows into the rows' own slots; no effect if rows are not packed."""
        if self.packed is not None and self._own.slots:
            index = (self.packed.row_N, slice(None), self.packed.token_N)
            self._own.keys[layer][index] = key_1GND[0].transpose(0, 1)
            self._own.values[layer][index] = value_1GND[0].transpose(0, 1)

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prefix's keys and values (1, G, P, D) of a layer, and count the layer."""
        self._attended += 1
        held = slice(0, self.shared_tokens)
        return self._trunk.keys[layer][:1, :, held], self._trunk.values[layer][:1, :, held]

    def wanted(self, layer: int) -> torch.Tensor | None:
        """Return indices (M,) of the packed tokens for which the layer runs; None: all."""
        is_last = layer + 1 == len(self._trunk.keys)
        return self._last_M if is_last and self.packed is not None else None

    def check(self, layers: int) -> None:
        """Raise RuntimeError unless the prefix was attended to `layers` times in this forward."""
        if self._attended != layers:
            raise RuntimeError(_CANNOT)


class Packed:
    """Layout of rows packed into one: packed token n is token `token_N[n]` of row `row_N[n]`."""

    def __init__(self, lengths: Sequence[int], device: str):
        self.lengths = list(lengths)
        lengths_B = torch.tensor(self.lengths)
        starts_B = lengths_B.cumsum(0) - lengths_B
        self.starts: list[int] = starts_B.tolist()
        self.row_N = torch.repeat_interleave(lengths_B).to(device)
        self.token_N = (torch.arange(int(lengths_B.sum())) - starts_B.repeat_interleave(lengths_B)).to(device)

    def alike(self) -> Iterator[tuple[int, int]]:
        """Yield (first, end) of groups of consecutive rows with similar lengths, whose padding costs little."""
        first = 0
        for row in range(1, len(self.lengths) + 1):
            longest = max(self.lengths[first:row])
            if row == len(self.lengths) or self.lengths[row] < _ALIKE * longest or _ALIKE * self.lengths[row] > longest:
                yield first, row
                first = row


def can_share(module: Any, attention: str, device: str) -> bool:
    """Return whether `attend_shared` can replace the model's attention: plain scaled softmax attention on a CPU.

    On CUDA no kernel that returns the softmax denominators with masks and in float32 has been tried.
    """
    config = module.config.get_text_config()
    has_more = any(getattr(config, name, None) for name in ("attn_logit_softcapping", "attn_logit_softcap"))
    return (
        device == "cpu"
        and attention == "sdpa"
        and bool(getattr(module, "_supports_attention_backend", False))
        and not has_more
    )


def attend_shared(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    branch: BranchCall,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention (B, T, H, D) over a branch's prefix and own tokens (Hydragen, see above).

    The signature is that of transformers' `AttentionInterface`; packed rows have the shape (1, N, H, D). ValueError for
    a model that adds other terms to its scores.
    """
    if others.get("s_aux") is not None or others.get("position_bias") is not None:
        raise ValueError(_CANNOT)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if branch.packed is not None:
        branch.keep(module.layer_idx, key, value)
        own_BHTD, own_sums_BHT = _own_packed(query, key, value, branch.packed, scale)
    else:
        own_BHTD, own_sums_BHT = _own_part(query, key, value, attention_mask, scale)
    prefix = branch.prefix(module.layer_idx)
    wanted_M = branch.wanted(module.layer_idx)
    if wanted_M is None:
        merged_BHTD = _merge(own_BHTD, own_sums_BHT, *_shared_part(query, *prefix, scale))
    else:
        shared = _shared_part(query[:, :, wanted_M], *prefix, scale)
        merged_BHTD = own_BHTD.clone()  # wrong for the other tokens, whose outputs are not used
        merged_BHTD[:, :, wanted_M] = _merge(own_BHTD[:, :, wanted_M], own_sums_BHT[:, :, wanted_M], *shared)
    return merged_BHTD.transpose(1, 2).contiguous(), None


def _merge(
    own_BHTD: torch.Tensor, own_sums_BHT: torch.Tensor, shared_BHTD: torch.Tensor, shared_sums_BHT: torch.Tensor
) -> torch.Tensor:
    """Return attention (B, H, T, D) over both parts; the sums are the logarithms of their softmax denominators."""
    weight_BHT1 = (shared_sums_BHT - own_sums_BHT).sigmoid()[..., None].to(own_BHTD.dtype)
    return torch.lerp(own_BHTD, shared_BHTD, weight_BHT1)


def _own_part(
    query_BHTD: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    repeats = query_BHTD.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    is_causal = mask is None and query_BHTD.shape[2] > 1
    return _attend(query_BHTD, key, value, scale, mask, is_causal)


def _own_packed(
    query_1HND: torch.Tensor, key_1GND: torch.Tensor, value_1GND: torch.Tensor, packed: Packed, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return causal attention (1, H, N, D) within each row, and the log of each softmax denominator (1, H, N)."""
    heads = query_1HND.shape[1]
    attended_1HND = torch.empty_like(query_1HND)
    sums_1HN = query_1HND.new_empty(1, heads, query_1HND.shape[2], dtype=torch.float32)
    for first, last in packed.alike():
        lengths = packed.lengths[first:last]
        here = slice(packed.starts[first], packed.starts[first] + sum(lengths))
        part = [states[0, :, here].transpose(0, 1) for states in (query_1HND, key_1GND, value_1GND)]
        if len(set(lengths)) == 1:
            query, key, value = (states.unflatten(0, (len(lengths), -1)).transpose(1, 2) for states in part)
        else:
            rows = [torch.split(states, lengths) for states in part]
            query, key, value = (pad_sequence(list(row), batch_first=True).transpose(1, 2) for row in rows)
        attended_BHTD, sums_BHT = _own_part(query, key, value, None, scale)
        index = (packed.row_N[here] - first, slice(None), packed.token_N[here])
        attended_1HND[0, :, here] = attended_BHTD[index].transpose(0, 1)
        sums_1HN[0, :, here] = sums_BHT[index].transpose(0, 1)
    return attended_1HND, sums_1HN


def _shared_part(
    query_BHTD: torch.Tensor, key_1GPD: torch.Tensor, value_1GPD: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, heads, tokens, width = query_BHTD.shape
    groups = key_1GPD.shape[1]
    folded = query_BHTD.reshape(rows, groups, heads // groups, tokens, width).permute(1, 0, 2, 3, 4)
    # The kernel is a fifth faster with contiguous queries, which outweighs the copy.
    queries = folded.reshape(1, groups, -1, width).contiguous()
    attended, sums = _attend(queries, key_1GPD, value_1GPD, scale, None, False)
    shape = (groups, rows, heads // groups, tokens)
    attended = attended.reshape(*shape, width).permute(1, 0, 2, 3, 4).reshape(query_BHTD.shape)
    return attended, sums.reshape(shape).permute(1, 0, 2, 3).reshape(rows, heads, tokens)


def _attend(
    query_BHTD: torch.Tensor,
    key_BHSD: torch.Tensor,
    value_BHSD: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    is_causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention (B, H, T, D) and the log of each softmax denominator (B, H, T), by torch's CPU flash kernel."""
    bias = None if mask is None else torch.zeros_like(mask, dtype=query_BHTD.dtype).masked_fill_(~mask, -torch.inf)
    attended, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query_BHTD, key_BHSD, value_BHSD, 0.0, is_causal, attn_mask=bias, scale=scale
    )
    return attended, sums

"""The logit check: the prompts, and the comparison of a runtime's logits with the reference's.

Shapes: T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtime_matrix.experiments.config.schema import AgreementConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.batching import pad, pad_positions
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.evaluation.finite import check_highest, tied
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.evaluation.requests import ScoreRequest, Tokenizer
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.runtimes.base import Runtime, Traits

_TEXTS = (
    "Once upon a time there was a small town by a river, and in it lived",
    "Question: What is the name of the largest animal that lives in the sea?\nAnswer:",
    "def add(a, b):\n    return",
    "The price rose from 12.50 to 13.75 in March 2024, which is an increase of",
)
_CONTINUED = (24, 64)  # shortest and longest prompt, in tokens
_CONTINUED_TOKENS = 24
_ROW_TOKENS = _CONTINUED[1] + _CONTINUED_TOKENS  # of a prompt with its continuation
_CONTINUED_AT_ONCE = 16
_RANDOM_TOKENS = (7, 16, 23, 32)  # different lengths, so that padding is tested too


def prompts(text: Tokenizer | None, traits: Traits, seed: int) -> list[list[int]]:
    """Return four prompts of different lengths: sentences, or seeded random ids for a model without a tokenizer."""
    if text is None:
        lengths = [min(tokens, traits.max_length or tokens) for tokens in _RANDOM_TOKENS]
        return [random_prompts(1, tokens, traits.vocabulary, seed + tokens)[0] for tokens in lengths]
    first = [] if text.bos_id is None else [text.bos_id]
    return [(first + text.encode(sentence))[: traits.max_length] for sentence in _TEXTS]


def prompt_logits(runtime: Runtime, rows: Sequence[Sequence[int]], traits: Traits | None = None) -> list[torch.Tensor]:
    """Return (T, V) float32 logits of each prompt, computed in one padded batch with `traits`, otherwise one by one.

    Raises FloatingPointError for logits that are not finite.
    """
    logits = _prompt_logits(runtime, rows, traits)
    for index, logits_TV in enumerate(logits):
        check_highest(logits_TV.amax(dim=1), f"prompt {index} of the agreement check")
    return logits


def _prompt_logits(runtime: Runtime, rows: Sequence[Sequence[int]], traits: Traits | None) -> list[torch.Tensor]:
    if traits is None:
        alone = [runtime.forward(torch.tensor([row]), [len(row)], None, torch.arange(len(row))[None]) for row in rows]
        return [outputs.logits_BKV[0].float().cpu() for outputs in alone]
    ids_BT, lengths = pad(rows, traits)
    at_BK = pad_positions([range(len(row)) for row in rows], len(lengths))
    logits_BKV = runtime.forward(ids_BT, lengths, None, at_BK).logits_BKV.float().cpu()
    return [logits_BKV[index, : len(row)] for index, row in enumerate(rows)]


def write_logits(logits: Sequence[torch.Tensor], file: Path) -> None:
    """Write the logits (T, V) of each prompt; `file` ends in .npz."""
    temporary = file.with_suffix(".tmp.npz")
    np.savez(temporary, *[rows.numpy() for rows in logits])
    os.replace(temporary, file)


def read_logits(file: Path) -> list[torch.Tensor]:
    """Return the logits (T, V) of each prompt, then those of each prompt's last two tokens (2, V)."""
    with np.load(file) as arrays:
        whole = [torch.from_numpy(arrays[name]) for name in arrays.files]
    return [*whole, *(logits_TV[-2:] for logits_TV in whole)]


def stepped_logits(runtime: Runtime, rows: Sequence[Sequence[int]], traits: Traits) -> list[torch.Tensor]:
    """Return (2, V) float32 logits of each prompt's last two tokens, one decode step each with a cache.

    The rows differ in length and change places between the steps. This exposes errors in replayed graphs and in
    buffers at fixed addresses.
    """
    order = list(reversed(range(len(rows))))
    ids_BT, lengths = pad([row[:-2] for row in rows], traits)
    cache = runtime.new_cache(len(lengths), ids_BT.shape[1] + 2)
    runtime.forward(ids_BT, lengths, cache)
    before = _step(runtime, cache, [row[-2] for row in rows])
    cache = cache.select(order + list(range(len(rows), len(lengths))))
    after = _step(runtime, cache, [rows[index][-1] for index in order])
    return [torch.stack([before[index], after[order.index(index)]]) for index in range(len(rows))]


def _step(runtime: Runtime, cache: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Return logits (B, V) after one more token per row; rows beyond the given tokens are padding."""
    rows = len(cache.lengths)
    ids_B1 = torch.tensor([*tokens, *[0] * (rows - len(tokens))])[:, None]
    logits_BV = runtime.forward(ids_B1, [1] * rows, cache).logits_BKV[:, 0].float().cpu()
    check_highest(logits_BV.amax(dim=1)[: len(tokens)], "a step of the agreement check")
    return logits_BV


def continuation_prompts(options: AgreementConfig, seed: int, traits: Traits) -> list[list[int]]:
    """Return prompts like the timed ones: random ids of similar lengths, with room for their continuations."""
    room = (traits.max_length or _ROW_TOKENS) - _continued_tokens(traits)
    lengths = [min(tokens, room) for tokens in _CONTINUED]
    return [
        prompt
        for number in range(options.continuations)
        for prompt in draw_prompts(f"agreement {seed} {number}", 1, lengths, traits.vocabulary)
    ]


def _continued_tokens(traits: Traits) -> int:
    """Return the length of a continuation: at most half of a row."""
    return min(_CONTINUED_TOKENS, (traits.max_length or _ROW_TOKENS) // 2)


def write_continuations(runtime: Runtime, traits: Traits, prompts: Sequence[list[int]], path: Path) -> None:
    """Write the prompts and the reference's greedy continuations."""
    new: list[list[int]] = []
    batch_size = traits.max_batch or _CONTINUED_AT_ONCE
    for start in range(0, len(prompts), batch_size):
        new += decode_batch(runtime, traits, prompts[start : start + batch_size], _continued_tokens(traits))
    write_atomic(path, json.dumps({"prompts": prompts, "new": new}))


def compare_continuations(runtime: Runtime, traits: Traits, path: Path, options: ScoringConfig) -> dict[str, int]:
    """Return how many of the reference's tokens are the runtime's top token too, given all tokens before each."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    requests = [
        ScoreRequest((*prompt, *new), len(prompt)) for prompt, new in zip(stored["prompts"], stored["new"], strict=True)
    ]
    margins = [margin for result in score(runtime, traits, requests, options) for margin in result.top1_margins]
    return {"continuation_tokens": len(margins), "continuation_same_top": sum(margin == 0 for margin in margins)}


@dataclass(frozen=True)
class Agreement:
    """How closely logits agree with the reference's."""

    same_top_ratio: float  # share of positions with the same top token
    max_logit_difference: float  # without entries that either side masks with minus infinity
    positions: int
    tied_positions: int  # positions whose top token is exactly tied with another


def compare(logits: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> Agreement:
    """Return how closely the logits (T, V) of each prompt agree. ValueError if shapes differ from the reference's."""
    if [rows.shape for rows in logits] != [rows.shape for rows in reference]:
        shapes = [[tuple(rows.shape) for rows in side[:1]] for side in (logits, reference)]
        raise ValueError(f"the runtime's logits have the shape {shapes[0]}, the reference's {shapes[1]}")
    pairs = list(zip(logits, reference, strict=True))
    same = sum(int((ours_TV.argmax(1) == reference_TV.argmax(1)).sum()) for ours_TV, reference_TV in pairs)
    positions = sum(len(logits_TV) for logits_TV in logits)
    return Agreement(
        same_top_ratio=same / positions,
        max_logit_difference=max(_difference(ours_TV, reference_TV) for ours_TV, reference_TV in pairs),
        positions=positions,
        tied_positions=sum(int(tied(logits_TV, logits_TV.amax(dim=1)).sum()) for logits_TV in logits),
    )


def _difference(ours_TV: torch.Tensor, reference_TV: torch.Tensor) -> float:
    is_number_TV = ours_TV.isfinite() & reference_TV.isfinite()
    return float(torch.where(is_number_TV, ours_TV - reference_TV, 0.0).abs().max())

"""Perplexity: which tokens of a text are scored in which window, and the figures from their log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.tasks import files


@dataclass(frozen=True)
class Window:
    ids: tuple[int, ...]
    first_scored: int  # index into `ids`; all before it is context


@dataclass(frozen=True)
class PerplexityScore:
    perplexity: float
    standard_error: float | None  # over windows; None for a single one
    per_byte_perplexity: float
    tokens: int
    nats: float


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """Return the text, or its first bytes (a character that the cut divides is dropped)."""
    content = files.read_text(path, "a text file").encode()
    text = content[:max_bytes].decode(errors="ignore")
    if not text.strip():
        raise UserError(f"{path} is empty; give a text file")
    return text


def windows(ids: Sequence[int], bos_id: int | None, length: int, stride: int | None = None) -> list[Window]:
    """Return windows of at most `length` tokens, the beginning-of-text token counted, that score each token once.

    `stride` tokens are scored a window (None: all, so that windows are disjoint); the others are context. Without a
    beginning-of-text token the text's first token is context only.
    """
    first = () if bos_id is None else (bos_id,)
    room = length - len(first)
    done = 0 if first else 1  # something must come before the first scored token
    step = min(stride or room - done, room - done)
    made = []
    while done < len(ids):
        end = min(len(ids), done + step)
        context = min(done, room - (end - done)) if stride else (0 if first else 1)
        made.append(Window((*first, *ids[done - context : end]), len(first) + context))
        done = end
    return made


def rule(bos_id: int | None, stride: int | None) -> str:
    """Return in words what stands before the first scored token of a window."""
    first = "the text's token before it" if bos_id is None else "a beginning-of-text token"
    if stride is None:
        return f"disjoint windows, each behind {first}"
    return f"windows that overlap, each behind {first} and the tokens that the stride leaves as context"


def summarise(logprobs: Sequence[Sequence[float]], n_bytes: int) -> PerplexityScore:
    """Return the figures of scored windows. The error is the ratio estimator's, clustered over windows."""
    tokens = sum(len(window) for window in logprobs)
    nats = -sum(sum(window) for window in logprobs)
    mean = nats / tokens
    error = None
    if len(logprobs) > 1:
        residuals = [-sum(window) - mean * len(window) for window in logprobs]
        correction = len(logprobs) / (len(logprobs) - 1)
        error = math.exp(mean) * math.sqrt(correction * sum(r * r for r in residuals)) / tokens
    return PerplexityScore(math.exp(mean), error, math.exp(nats / n_bytes), tokens, nats)

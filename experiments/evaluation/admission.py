"""What a scheduler admits, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


class Busy(Exception):
    """More requests than the limit are admitted already. The message is one line."""


class Closed(Exception):
    """The scheduler takes no more requests."""


@dataclass(frozen=True)
class Limits:
    """What is admitted. With `one_at_a_time` a request waits until the one before has ended, as behind a lock."""

    max_batch: int = 8  # rows of a step
    max_requests: int = 64  # texts and scoring requests that wait or run
    one_at_a_time: bool = False


@dataclass
class Counts:
    """What was done since the start. Written by one thread and read by others."""

    prompt_tokens: int = 0
    new_tokens: int = 0  # with those that end a text
    finished: int = 0  # texts, and pieces of other work
    cancelled: int = 0
    refused: int = 0
    failed: int = 0
    steps: int = 0
    busy_s: float = 0.0  # time in steps and scoring
    admitted: int = 0  # that wait or run now
    running: int = 0  # rows of the last step
    consecutive_failures: int = 0  # steps, and parts of other work, that failed since the last one that did not

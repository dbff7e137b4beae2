"""A document of the training text, and the rule that keeps the benchmarks out of it."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """`given` is read and not learned to write, as a prompt is; `text` follows it and is learned."""

    text: str
    given: str = ""


def is_held_out(text: str, one_in: int) -> bool:
    """Return whether a text belongs to the benchmarks, by its digest: the same in every run and for every seed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % one_in == 0

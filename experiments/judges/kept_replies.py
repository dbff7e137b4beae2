"""Replies of judges, kept by judge, prompt and options: none that was answered is paid twice, also after a kill.

What a reply says is read anew each time, so a reply that says nothing is kept too. Failed calls are not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.judges.judge import Reply

_VERSION = 1  # raise it when the meaning of a kept reply changes


class KeptReplies:
    """The replies of one judge in a SQLite file. With `path` None nothing is kept."""

    def __init__(self, path: Path | None, identity: JsonObject):
        self._identity = json.dumps([_VERSION, identity], sort_keys=True)
        self._kept = KeptTexts(path, "replies")

    @property
    def note(self) -> str | None:
        """What was wrong with the file; None if nothing was."""
        return self._kept.note

    def key(self, prompt: str, repeat: int) -> bytes:
        """Return the key of a reply; repeats of a prompt are kept apart."""
        return hashlib.sha256(f"{self._identity}\0{repeat}\0{prompt}".encode()).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """Return the kept replies by key."""
        replies = {key: _reply(text) for key, text in self._kept.get(keys).items()}
        return {key: reply for key, reply in replies.items() if reply is not None}

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep a reply."""
        self._kept.put([(key, json.dumps([reply.text, reply.prompt_tokens, reply.new_tokens]))])

    def close(self) -> None:
        """Close the file."""
        self._kept.close()


def _reply(text: str) -> Reply | None:
    """Return a kept reply; None for one that was damaged."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or len(values) != 3 or not isinstance(values[0], str):
        return None
    return Reply(values[0], _count(values[1]), _count(values[2]))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

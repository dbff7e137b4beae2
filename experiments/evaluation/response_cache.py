"""What a runtime answered, kept by content: scores and texts that need not be asked for again.

Each batch is written as it is done, so that a killed run goes on behind it. Never consulted where time is measured.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest

_VERSION = 2  # raised when the meaning of a stored answer changes


class Responses:
    """One SQLite file, safe for several processes. `path` None keeps nothing; without `use` nothing is answered.

    `identity` is JSON that tells this runtime over this model from all others whose answers may differ.
    """

    def __init__(self, path: Path | None, identity: JsonObject, use: bool):
        text = json.dumps([_VERSION, identity], sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).digest()
        self._use, self.hits = use, 0
        self._kept = KeptTexts(path, "answers")

    @property
    def note(self) -> str | None:
        """What was wrong with the file."""
        return self._kept.note

    def scores(self, requests: Sequence[ScoreRequest], exact: bool) -> list[Scored | None]:
        """Return what is known of each request."""
        found = self._get([self._score_key(request, exact) for request in requests])
        return [None if one is None else Scored(tuple(one[0]), tuple(one[1])) for one in found]

    def keep_scores(self, scored: Iterable[tuple[ScoreRequest, Scored]], exact: bool) -> None:
        self._keep((self._score_key(request, exact), [one.logprobs, one.top1_margins]) for request, one in scored)

    def texts(self, request: GenerateRequest, eos_ids: Sequence[int]) -> list[Generated | None]:
        """Return what is known of each of the request's samples."""
        keys = [self._text_key(request, sample, eos_ids) for sample in range(len(request.seeds))]
        return [None if one is None else Generated(tuple(one[0]), one[1], one[2]) for one in self._get(keys)]

    def keep_text(self, request: GenerateRequest, sample: int, eos_ids: Sequence[int], one: Generated) -> None:
        self._keep([(self._text_key(request, sample, eos_ids), [one.ids, one.text, one.finished_by])])

    def close(self) -> None:
        self._kept.close()

    def _get(self, keys: Sequence[bytes]) -> list[Any]:
        if not self._use:
            return [None] * len(keys)
        found = self._kept.get(keys)
        self.hits += sum(key in found for key in keys)
        return [json.loads(found[key]) if key in found else None for key in keys]

    def _keep(self, rows: Iterable[tuple[bytes, Any]]) -> None:
        self._kept.put((key, json.dumps(one)) for key, one in rows)

    def _score_key(self, request: ScoreRequest, exact: bool) -> bytes:
        key = hashlib.sha256(self._identity)
        key.update(f"score {exact} {len(request.prefix) + request.first_scored} ".encode())
        key.update(array("I", request.prefix).tobytes())
        key.update(array("I", request.ids).tobytes())
        return key.digest()

    def _text_key(self, request: GenerateRequest, sample: int, eos_ids: Sequence[int]) -> bytes:
        drawn = [request.temperature, request.top_p, request.seeds[sample]] if request.temperature > 0 else []
        options = [request.max_new_tokens, request.stop, drawn, list(eos_ids)]
        key = hashlib.sha256(self._identity)
        key.update(json.dumps(options).encode())
        key.update(array("I", request.ids).tobytes())
        return key.digest()

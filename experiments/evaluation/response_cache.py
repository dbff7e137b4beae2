"""The response cache: scores and texts of a runtime, stored by the content of their requests.

Each batch is written when it is done, so a killed run resumes after it. Timed benchmarks never use the cache.
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

_VERSION = 2  # raise it when the meaning of a stored response changes


class Responses:
    """One SQLite file, safe for several processes. With `path` None nothing is stored; without `use` nothing is read.

    `identity` is JSON that differs for every runtime and model whose responses may differ. `others` are files that are
    only read. `hits` counts reuse, `kept` the responses that were computed.
    """

    def __init__(self, path: Path | None, identity: JsonObject, use: bool, others: Sequence[Path] = ()):
        text = json.dumps([_VERSION, identity], sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).digest()
        self._use, self.hits, self.kept = use, 0, 0
        self._kept = KeptTexts(path, "answers")
        self._others = [KeptTexts(other, "answers") for other in others]

    @property
    def note(self) -> str | None:
        """What was wrong with the file; None if nothing was."""
        return next((kept.note for kept in (self._kept, *self._others) if kept.note is not None), None)

    def scores(self, requests: Sequence[ScoreRequest], exact: bool) -> list[Scored | None]:
        """Return the stored result of each request, None where there is none."""
        entries = self._get([self._score_key(request, exact) for request in requests])
        return [None if entry is None else Scored(tuple(entry[0]), tuple(entry[1])) for entry in entries]

    def keep_scores(self, scored: Iterable[tuple[ScoreRequest, Scored]], exact: bool) -> None:
        """Store results; `exact` ones (batch-invariant) are stored apart from the others."""
        self._keep((self._score_key(request, exact), [part.logprobs, part.top1_margins]) for request, part in scored)

    def texts(self, request: GenerateRequest, eos_ids: Sequence[int]) -> list[Generated | None]:
        """Return the stored text of each of the request's samples, None where there is none."""
        keys = [self._text_key(request, sample, eos_ids) for sample in range(len(request.seeds))]
        entries = self._get(keys)
        return [None if entry is None else Generated(tuple(entry[0]), entry[1], entry[2]) for entry in entries]

    def keep_text(self, request: GenerateRequest, sample: int, eos_ids: Sequence[int], result: Generated) -> None:
        """Store the text of one sample of a request."""
        self._keep([(self._text_key(request, sample, eos_ids), [result.ids, result.text, result.finished_by])])

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        for kept in (self._kept, *self._others):
            kept.close()

    def _get(self, keys: Sequence[bytes]) -> list[Any]:
        if not self._use:
            return [None] * len(keys)
        stored = self._kept.get(keys)
        for other in self._others:
            stored |= other.get([key for key in keys if key not in stored])
        self.hits += sum(key in stored for key in keys)
        return [json.loads(stored[key]) if key in stored else None for key in keys]

    def _keep(self, rows: Iterable[tuple[bytes, Any]]) -> None:
        texts = [(key, json.dumps(values)) for key, values in rows]
        self.kept += len(texts)
        self._kept.put(texts)

    def _score_key(self, request: ScoreRequest, exact: bool) -> bytes:
        key = hashlib.sha256(self._identity)
        key.update(f"score {exact} {len(request.prefix) + request.first_scored} ".encode())
        key.update(array("I", request.prefix).tobytes())
        key.update(array("I", request.ids).tobytes())
        return key.digest()

    def _text_key(self, request: GenerateRequest, sample: int, eos_ids: Sequence[int]) -> bytes:
        sampling = [request.temperature, request.top_p, request.seeds[sample]] if request.temperature > 0 else []
        options = [request.max_new_tokens, request.stop, sampling, list(eos_ids)]
        key = hashlib.sha256(self._identity)
        key.update(json.dumps(options).encode())
        key.update(array("I", request.ids).tobytes())
        return key.digest()

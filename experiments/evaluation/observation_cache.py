"""The cache of observed responses, by the content of their requests: binary rows beside the response cache.

An entry is read only if its size, its shape and its digest fit the request. Any other entry is computed again.
"""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.kept_texts import Kept
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest

_VERSION = 1  # raise it when the meaning or the layout of a stored entry changes
_SHAPE = struct.Struct("<III")  # tokens, heads of all layers, layers
_DIGEST_BYTES = 16
_TABLE = "observed"
_VALUES = np.dtype("<f4")


class Observations:
    """One SQLite file, safe for several processes and opened at first use.

    `identity` is JSON that differs for every runtime and model whose outputs may differ. Without `use`, nothing is read
    but what the caller names as its own. With `path` None, entries are in a temporary file for that purpose. `others`
    are files that are only read. `kept` counts the results that were computed.
    """

    def __init__(self, path: Path | None, identity: JsonObject, use: bool, others: Sequence[Path] = ()):
        text = json.dumps([_VERSION, identity], sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).digest()
        self._path, self._use = path, use
        self._wrong = 0  # entries that were read and do not fit
        self.kept = 0
        self._others = [Kept(other, _TABLE, bytes) for other in others]

    @property
    def note(self) -> str | None:
        """What was wrong with the file or its entries; None if nothing was."""
        parts = [self._kept.note] if self._kept.note is not None else []
        if self._wrong:
            parts.append(f"{self._path}: {self._wrong} damaged entries were computed again")
        return "; ".join(parts) or None

    def key(self, request: ObserveRequest, exact: bool) -> bytes:
        """Return the key of a request's result; `exact` ones (batch-invariant) are stored apart from the others."""
        key = hashlib.sha256(self._identity)
        context = request.context
        key.update(f"observe {exact} {context.start} {context.stop} {request.first_scored} ".encode())
        key.update(array("I", request.ids).tobytes())
        return key.digest()

    def get(self, requests: Mapping[bytes, ObserveRequest], own: Collection[bytes]) -> dict[bytes, Observed]:
        """Return the stored results by key. `own`: the keys that the caller has kept, readable without `use` too."""
        keys = list(requests) if self._use else [key for key in requests if key in own]
        stored = self._kept.get(keys) if keys else {}
        for other in self._others:
            stored |= other.get([key for key in keys if key not in stored])
        results = {key: _unpacked(key, entry, requests[key]) for key, entry in stored.items()}
        fitting = {key: result for key, result in results.items() if result is not None}
        self._wrong += len(results) - len(fitting)
        return fitting

    def keep(self, results: Iterable[tuple[bytes, Observed]]) -> None:
        """Store results by key, in place of earlier ones."""
        entries = [(key, _packed(key, result)) for key, result in results]
        self.kept += len(entries)
        self._kept.put(entries)

    def close(self) -> None:
        """Close the file; later calls read and store nothing."""
        for kept in (*([self._kept] if "_kept" in vars(self) else []), *self._others):
            kept.close()

    @cached_property
    def _kept(self) -> Kept[bytes]:
        return Kept(self._path, _TABLE, bytes, temporary=self._path is None)


def _packed(key: bytes, observed: Observed) -> bytes:
    """Return the shape, the digest and the values."""
    parts = (observed.logprobs_T, observed.external_context_TH, observed.parametric_knowledge_TL)
    tokens, heads = observed.external_context_TH.shape
    shape = _SHAPE.pack(tokens, heads, observed.parametric_knowledge_TL.shape[1])
    values = b"".join(np.ascontiguousarray(part, _VALUES).tobytes() for part in parts)
    return shape + _digest(key, shape, values) + values


def _unpacked(key: bytes, entry: bytes, request: ObserveRequest) -> Observed | None:
    """Return the result in an entry; None if it is not one of this request."""
    start = _SHAPE.size + _DIGEST_BYTES
    if len(entry) < start:
        return None
    shape, values = entry[: _SHAPE.size], memoryview(entry)[start:]
    tokens, heads, layers = _SHAPE.unpack(shape)
    if (
        tokens != request.tokens
        or not layers
        or not heads
        or heads % layers
        or len(values) != tokens * (1 + heads + layers) * _VALUES.itemsize
        or entry[_SHAPE.size : start] != _digest(key, shape, values)
    ):
        return None
    flat = np.frombuffer(values, _VALUES).astype(np.float32)
    if not np.isfinite(flat).all():
        return None
    logprobs_T, external, knowledge = np.split(flat, [tokens, tokens * (1 + heads)])
    return Observed(logprobs_T, external.reshape(tokens, heads), knowledge.reshape(tokens, layers), heads // layers)


def _digest(key: bytes, shape: bytes, values: bytes | memoryview) -> bytes:
    """Return a digest that also tells an entry of another key."""
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES)
    digest.update(shape)
    digest.update(values)
    return digest.digest()

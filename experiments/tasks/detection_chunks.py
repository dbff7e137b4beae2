"""Tokens, chunks and labels of responses: what a runtime observes, and how tokens become chunks.

A chunk is a sentence of the response. T tokens of the response, N chunks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.evaluation.requests import ObserveRequest, Tokenizer, cut_context
from runtime_matrix.experiments.tasks.detection_data import Response, Span

# A sentence ends with its mark, closing quotes or brackets and white space, or with its line. Abbreviations end
# sentences too: that makes smaller chunks and changes no label of a response.
_END = re.compile(r"""[.!?]+["'”’)\]]*\s+|[。！？]+[”’」』）]*\s*|\s*\n\s*""")


@dataclass(frozen=True)
class Chunked:
    """A response as tokens: what is observed, and the chunk of each of its tokens."""

    response: Response
    request: ObserveRequest
    ends_T: list[int]  # characters of the response up to the end of each token
    chunk_T: list[int]
    spans: list[Span]  # of the chunks, characters of the response
    is_unsupported_N: list[bool]


@dataclass(frozen=True)
class ChunkedSet:
    """The responses that fit the model, and what had to be cut or left out."""

    chunked: list[Chunked]
    cut_contexts: int
    cut_tokens: int
    left_out: Counter[str]


def sentences(text: str) -> list[Span]:
    """Return the spans of the sentences, which cover the whole text; white space belongs to the sentence before it."""
    starts = [0, *(match.end() for match in _END.finditer(text) if text[: match.end()].strip())]
    spans = list(zip(starts, [*starts[1:], len(text)], strict=True))
    return [span for span in spans if text[span[0] : span[1]].strip()] or spans[:1]


def chunk_all(text: Tokenizer, responses: Sequence[Response], max_tokens: int | None) -> ChunkedSet:
    """Return the responses as tokens. `max_tokens`: most tokens of a prompt with its response, beside the model's own.

    The end of a context that is too long is cut. A response whose context would be cut entirely is left out.
    """
    limits = [limit for limit in (max_tokens, text.max_length) if limit is not None]
    chunked, cut, tokens, left_out = [], 0, 0, Counter[str]()
    for response in responses:
        whole = _tokens(text, response)
        fitted = cut_context(*whole.cut_arguments, min(limits)) if limits else (whole.request, 0)
        if fitted is None:
            left_out["more tokens than the limit without its context"] += 1
            continue
        request, surplus = fitted
        cut, tokens = cut + (surplus > 0), tokens + surplus
        chunked.append(_chunked(response, request, whole.ends_T))
    return ChunkedSet(chunked, cut, tokens, left_out)


@dataclass(frozen=True)
class _Tokens:
    request: ObserveRequest
    ends_T: list[int]

    @property
    def cut_arguments(self) -> tuple[tuple[int, ...], range, int]:
        """Return the ids, the context and the first token of the response."""
        return self.request.ids, self.request.context, self.request.first_scored


def joined(response: Response) -> tuple[str, int]:
    """Return the prompt with the response, and where the response starts: behind a space if none separates them."""
    prompt = response.prompt
    separator = "" if prompt[-1].isspace() or response.text[0].isspace() else " "
    return prompt + separator + response.text, len(prompt) + len(separator)


def _tokens(text: Tokenizer, response: Response) -> _Tokens:
    whole, start = joined(response)
    ids, spans = text.encode_spans(whole)
    first = () if text.bos_id is None else (text.bos_id,)
    first_scored = next(index for index, (_, end) in enumerate(spans) if end > start)
    if first_scored == 0 and not first:
        raise ValueError("the prompt and the response are one token")
    begin, stop = response.context
    inside = [index for index, span in enumerate(spans[:first_scored]) if span[1] > begin and span[0] < stop]
    at = len(first)
    context = range(at + inside[0], at + inside[-1] + 1) if inside else range(at + first_scored)
    ends_T = [min(max(end - start, 0), len(response.text)) for _, end in spans[first_scored:]]
    return _Tokens(ObserveRequest((*first, *ids), context, at + first_scored), ends_T)


def _chunked(response: Response, request: ObserveRequest, ends_T: list[int]) -> Chunked:
    """Assign each token to the sentence of its last character; sentences without a token join the one before."""
    spans = sentences(response.text)
    sentence_T = [next((i for i, (_, stop) in enumerate(spans) if end <= stop), len(spans) - 1) for end in ends_T]
    kept = sorted(set(sentence_T))
    stops = [spans[index][0] for index in kept[1:]] + [len(response.text)]
    starts = [0, *stops[:-1]]
    chunks = list(zip(starts, stops, strict=True))
    place = {sentence: index for index, sentence in enumerate(kept)}
    labels = [any(a < stop and start < b for a, b in response.unsupported) for start, stop in chunks]
    return Chunked(response, request, ends_T, [place[sentence] for sentence in sentence_T], chunks, labels)

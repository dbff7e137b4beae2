"""What a model takes of memory: the sizes and terms from which engines, weights and placements declare their footprint.

All sizes are in bytes unless they are counts. Footprints are of the host of a CPU that computes, above what the process
holds after its imports: that is what the benchmark `memory` measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_F32 = 4


@dataclass(frozen=True)
class Load:
    """A load of fixed shape: rows of a batch, tokens per prompt, and new tokens per row."""

    rows: int
    prompt_tokens: int
    new_tokens: int

    @property
    def capacity(self) -> int:
        """Return the tokens that a row holds at the end."""
        return self.prompt_tokens + self.new_tokens


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model. Counts of weights are numbers of parameters; tied ones count once."""

    linear: int  # of the matrices within the layers, which quantization packs
    largest: int  # of the largest of them
    embedding: int
    head: int  # 0: the head shares the embedding's weights
    rest: int  # norms, biases, learned positions
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    widest: int  # the longest side of a matrix within the layers: the width of the feed-forward network
    vocabulary: int
    stored_dtype: str | None = None  # of the weights' file; None: they are drawn, or the file mixes dtypes

    @property
    def weights(self) -> int:
        """Return the number of all weights."""
        return self.linear + self.embedding + self.head + self.rest

    def dense_bytes(self, dtype: str) -> int:
        """Return the bytes of all weights in a dtype."""
        return self.weights * ELEMENT_BYTES[dtype]

    def cache_bytes(self, load: Load, dtype: str) -> int:
        """Return the bytes of the keys and values of all tokens of all rows."""
        elements = 2 * self.layers * self.kv_heads * self.head_width
        return elements * load.rows * load.capacity * ELEMENT_BYTES[dtype]

    def logits_bytes(self, rows: int) -> int:
        """Return the bytes of the logits of one token per row, in float32."""
        return rows * self.vocabulary * _F32

    def activation_bytes(self, tokens: int, dtype: str) -> int:
        """Return the bytes of what a layer holds at once of so many tokens, as measured in eager PyTorch.

        Four times the width of the feed-forward network, and six times that of the residual stream.
        """
        return tokens * (4 * self.widest + 6 * self.hidden) * ELEMENT_BYTES[dtype]

    def score_bytes(self, load: Load, dtype: str) -> int:
        """Return the bytes of one layer's attention scores of a prompt, for engines that store all of them."""
        return load.rows * self.heads * load.prompt_tokens**2 * ELEMENT_BYTES[dtype]


@dataclass(frozen=True)
class WeightFootprint:
    """What weights take: after loading, at the peak of loading, and for the time of a forward beside that.

    `activations_ratio`: what a forward holds of its tokens, relative to dense weights.
    """

    held_bytes: float
    load_bytes: float
    forward_bytes: float = 0.0
    activations_ratio: float = 1.0


@dataclass(frozen=True)
class Footprint:
    """The peaks of loading, and of one load with everything that is held then."""

    load_bytes: float
    run_bytes: float

    @property
    def peak_bytes(self) -> float:
        """Return the larger of the two."""
        return max(self.load_bytes, self.run_bytes)


def sizes_of(
    shapes: Mapping[str, Sequence[int]],
    *,
    vocabulary: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_width: int,
    hidden: int,
    is_tied: bool,
    stored_dtype: str | None,
) -> ModelSizes:
    """Return the sizes of a model from the shapes of its tensors by name.

    The embedding and the head are the matrices with a row per token of the vocabulary.
    """
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    of_words = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == vocabulary]
    linear = [name for name, shape in shapes.items() if len(shape) == 2 and name not in of_words]
    inner = [name for name in linear if min(shapes[name]) > 1 and "position" not in name and "wpe" not in name]
    words = max((counts[name] for name in of_words), default=0)
    has_head = len(of_words) > 1 and not is_tied
    known = sum(counts[name] for name in (*of_words, *inner))
    return ModelSizes(
        linear=sum(counts[name] for name in inner),
        largest=max((counts[name] for name in inner), default=0),
        embedding=words,
        head=words if has_head else 0,
        rest=sum(counts.values()) - known,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        hidden=hidden,
        widest=max((max(shapes[name]) for name in inner), default=hidden),
        vocabulary=vocabulary,
        stored_dtype=stored_dtype,
    )

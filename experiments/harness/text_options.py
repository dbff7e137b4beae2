"""The options of a text to generate, from the keywords that lm-evaluation-harness's tasks give."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.harness.encoding import HarnessTokenizer

_SAMPLING = {"top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}  # without effect on greedy texts
# Options with the values that change nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "use_cache": (True, False),
    "early_stopping": (True, False),
    "top_k": (0, None),
}


@dataclass(frozen=True)
class TextOptions:
    """How a text is generated. A text ends before the first of `stop`, or at a token of `stop_ids`."""

    max_new_tokens: int
    stop: tuple[str, ...]
    stop_ids: tuple[int, ...]
    temperature: float
    top_p: float

    def seed(self, seed: int, context: str, occurrence: int) -> int:
        """Return a seed for the n-th text of a context, so that it does not depend on the other requests."""
        key = f"{seed}/{occurrence}/{context}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big")


def text_options(keywords: Mapping[str, Any], default_tokens: int, tokenizer: HarnessTokenizer) -> TextOptions:
    """Return the options; UserError for one that this evaluation core does not have, such as beam search."""
    options: dict[str, Any] = dict(normalize_gen_kwargs(dict(keywords), default_tokens))
    eos = tokenizer.inner.eos_token
    stop = [text for text in handle_stop_sequences(options.pop("until"), eos=eos) if text]
    max_new_tokens, samples = options.pop("max_gen_toks"), options.pop("do_sample")
    temperature, top_p = float(options.pop("temperature", 0.0)), float(options.pop("top_p", 1.0))
    for name, value in options.items():
        is_neutral = value in _NEUTRAL.get(name, ()) or (name in _SAMPLING and not samples)
        if not is_neutral:
            raise UserError(
                f"generation option {name}={value!r} is not supported: a task may set until, max_gen_toks, do_sample, "
                "temperature and top_p"
            )
    stop_ids = [token for text in stop if (token := tokenizer.special_id(text)) is not None]
    return TextOptions(max_new_tokens, tuple(stop), tuple(stop_ids), temperature if samples else 0.0, top_p)

"""Which tokens a model's attention layers see: all earlier ones, or a sliding window of the latest.

The configuration is read as `transformers` reads it: a window of n tokens includes the token itself. Nothing here needs
torch, so a model that no engine can keep is refused before it is loaded.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

from runtime_matrix.runtimes.base import ReadOnlyJson, Unsupported

FULL, SLIDING = "full_attention", "sliding_attention"
_RECURRENT = (
    *("mamba", "mamba2", "falcon_mamba", "falcon_h1", "jamba", "bamba", "zamba", "zamba2", "nemotron_h", "rwkv"),
    *("xlstm", "recurrent_gemma", "granitemoehybrid", "olmo_hybrid", "kimi_linear", "qwen3_next", "qwen3_5_text"),
)  # model types whose configuration need not name the layers that keep a state instead of keys and values
_MODELS = "transformers.models."
# What `transformers` writes in models whose forward takes one mask for each layer type, and in those with windows.
_TAKES_MASKS, _HAS_WINDOW = "isinstance(causal_mask_mapping", "sliding_window_causal_mask"


@dataclass(frozen=True)
class Windows:
    """The windows of a model's layers. `size` None: all layers see all earlier tokens."""

    size: int | None = None  # tokens that a windowed layer sees, the current one included
    is_mixed: bool = False  # other layers see all earlier tokens

    @classmethod
    def of(cls, module: Any) -> Windows:
        """Return the windows of a `transformers` module; without a size if no row can be longer than the window.

        Raises Unsupported for layers that no engine keeps, or a model that takes no mask for each layer type.
        """
        text = module.config.get_text_config()
        reason = problem(text.to_dict())
        if reason is None and getattr(module, "_is_stateful", False):
            reason = _states(text.model_type)
        if reason is not None:
            raise Unsupported(reason)
        source = _source(module)
        types = set(getattr(text, "layer_types", None) or ())
        size = getattr(text, "sliding_window", None)
        has_window = SLIDING in types if types else size is not None and _HAS_WINDOW in source
        if not has_window:
            return cls()
        if types and _TAKES_MASKS not in source:
            raise Unsupported(f"transformers computes the sliding_attention of a {text.model_type} in a way of its own")
        longest = getattr(text, "max_position_embeddings", None)
        if longest is not None and size >= longest:
            return cls()
        return cls(size, FULL in types)

    def within(self, slots: int) -> Windows:
        """Return the windows that matter among so many slots: none if all of them fit in a window."""
        return Windows() if self.size is None or slots <= self.size else self


def _source(module: Any) -> str:
    """Return the source of `transformers`' files that the module's parts are from."""
    names = {type(part).__module__ for part in module.modules()}
    return "".join(inspect.getsource(sys.modules[name]) for name in sorted(names) if name.startswith(_MODELS))


def problem(config: ReadOnlyJson) -> str | None:
    """Return in one line why no engine can keep the layers of a text model's configuration; None if they can be kept.

    Keys that the configuration leaves to `transformers`' defaults count as absent.
    """
    types = config.get("layer_types") or ()
    other = sorted({str(kind) for kind in types} - {FULL, SLIDING})
    if other:
        return f"the model has layers of the types {', '.join(other)}: supported are {FULL} and {SLIDING}"
    if config.get("model_type") in _RECURRENT:
        return _states(config["model_type"])
    if config.get("attention_chunk_size") is not None:
        return f"the model has chunked attention, which is not supported: {FULL} and {SLIDING} are"
    if config.get("use_bidirectional_attention"):
        return "the model attends to later tokens (use_bidirectional_attention), and the engines compute causal models"
    if config.get("num_kv_shared_layers"):
        return "the model has layers that share keys and values (num_kv_shared_layers), which no cache here keeps"
    return _wrong_window(config, SLIDING in types)


def _states(model_type: str) -> str:
    return (
        f"a {model_type} has recurrent layers, whose state cannot be rewound: supported are {FULL} and {SLIDING}, as "
        "in llama or gemma3_text"
    )


def _wrong_window(config: ReadOnlyJson, is_needed: bool) -> str | None:
    if "sliding_window" not in config or not config.get("use_sliding_window", True):
        return None  # transformers' default, or unused
    size = config["sliding_window"]
    if (size is None and not is_needed) or (isinstance(size, int) and not isinstance(size, bool) and size > 0):
        return None
    return f"sliding_window must be a number of tokens, 1 or more; the model's configuration has {size!r}"

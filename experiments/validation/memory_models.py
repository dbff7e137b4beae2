"""The models on which estimates of memory are tuned and judged: seeded random weights in nine shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RandomModel:
    """A model with random weights, in the layout of Hugging Face. `is_judged`: no constant was chosen on it."""

    name: str
    model_type: str
    dtype: str  # of the stored weights
    layers: int
    hidden: int
    inner: int  # width of the feed-forward network
    heads: int
    kv_heads: int
    vocabulary: int
    is_tied: bool
    is_judged: bool

    @property
    def weights(self) -> int:
        """Return the number of weights in matrices."""
        width = self.hidden // self.heads
        attention = 2 * self.hidden * (self.hidden + self.kv_heads * width)
        layer = attention + 3 * self.hidden * self.inner
        return self.layers * layer + (1 if self.is_tied else 2) * self.vocabulary * self.hidden

    def write(self, folder: Path) -> None:
        """Write the model, unless the folder exists."""
        if folder.exists():
            return
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        config: Any = AutoConfig.for_model(
            self.model_type,
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.is_tied,
            max_position_embeddings=2048,
        )
        torch.manual_seed(0)
        module: Any = AutoModelForCausalLM.from_config(config)
        module.to(getattr(torch, self.dtype)).save_pretrained(folder)


MODELS = (
    RandomModel("deep", "llama", "bfloat16", 12, 640, 1728, 10, 5, 12000, False, is_judged=True),
    RandomModel("narrow", "llama", "float32", 8, 512, 1408, 8, 4, 8192, False, is_judged=False),
    RandomModel("grouped", "llama", "float32", 12, 896, 2432, 14, 2, 20000, True, is_judged=False),
    RandomModel("long_rows", "llama", "bfloat16", 10, 768, 2048, 12, 12, 32000, True, is_judged=False),
    RandomModel("words", "qwen2", "bfloat16", 6, 512, 1536, 8, 8, 50304, True, is_judged=True),
    RandomModel("many_words", "qwen2", "bfloat16", 4, 384, 1024, 6, 2, 65536, False, is_judged=False),
    RandomModel("large", "llama", "bfloat16", 12, 768, 3072, 12, 3, 24000, False, is_judged=True),
    RandomModel("wide", "llama", "float32", 6, 1024, 2816, 16, 4, 16384, True, is_judged=False),
    RandomModel("square", "llama", "float32", 9, 832, 2304, 13, 13, 24000, False, is_judged=True),
)

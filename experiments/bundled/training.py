"""Train the bundled model: the recipe, the model, one loop over steps that a checkpoint can resume.

The schedule counts steps, never seconds, so that a seed gives the same model again, bit by bit, under
`torch.use_deterministic_algorithms` (on the same number of threads of the same kind of processor; elsewhere the sums
round differently).
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from runtime_matrix.experiments.bundled.corpus import SECOND_LEG_SHARD, training_documents
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import World
from runtime_matrix.experiments.bundled.tokens import BOS, EOS, VOCABULARY_SIZE, token_id, windows_of
from runtime_matrix.experiments.config.errors import UserError

MAX_POSITIONS = 1024
STEPS_PER_SHARD = 64  # text is made a shard at a time, so that a resumed run need not make it all again


@dataclass(frozen=True)
class Size:
    """Every matrix is a multiple of 64 wide and high."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int


SIZES = {"model": Size(256, 512, 4, 4, 2), "draft": Size(128, 256, 2, 2, 1)}  # 3.4 and 0.8 million parameters


@dataclass(frozen=True)
class Recipe:
    """The options of one training run."""

    steps: int
    seed: int = 0
    size: str = "model"  # or draft: a smaller one that guesses for it
    leg: int = 0  # 1: trains the model of the first leg on, with text of another mixture
    blend: float = 1.0  # share of this leg in the weights that are kept; the rest is of the leg before
    batch_size: int = 16
    window: int = 256  # every prompt of the benchmarks is shorter
    peak_lr: float = 2e-3
    warmup_steps: int = 200
    final_lr_ratio: float = 0.02
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0

    @property
    def tokens(self) -> int:
        """Return the number of training tokens."""
        return self.steps * self.batch_size * self.window


@dataclass(frozen=True)
class Progress:
    """The steps done and the loss of the last one."""

    step: int  # steps done
    loss: float


def new_model(tokenizer: Tokenizer, seed: int, size: Size = SIZES["model"]) -> LlamaForCausalLM:
    """Build the model with random weights."""
    torch.manual_seed(seed)
    bos, eos = token_id(tokenizer, BOS), token_id(tokenizer, EOS)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        head_dim=64,
        max_position_embeddings=MAX_POSITIONS,
        # Untied, so that a runtime may quantize the head and leave the embedding alone.
        tie_word_embeddings=False,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    config._attn_implementation = "eager"  # compiled, faster than the fused attention, which computes in fp32 here
    return LlamaForCausalLM(config)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm up linearly, then fall along a cosine to `final_lr_ratio` of the peak."""
    if step < recipe.warmup_steps:
        return recipe.peak_lr * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return recipe.peak_lr * (recipe.final_lr_ratio + (1 - recipe.final_lr_ratio) * cosine)


# How the committed models were made: 37 million tokens, an hour on two idle cores; the draft a quarter of that.
# The second leg has a lower peak learning rate, so that nothing is forgotten. Its model alone answers nearly every
# question about a passage, which leaves no room for improvement; a blend with a share of 0.6 answers nine in ten.
LEGS = {
    "model": (Recipe(6500), Recipe(2500, leg=1, peak_lr=1e-3, blend=0.6)),
    "draft": (Recipe(6500, size="draft"),),
}


def first_shard_of(recipe: Recipe) -> int:
    """Return the number of the first shard of text of a leg: no text comes twice."""
    return SECOND_LEG_SHARD * recipe.leg


def read_model(folder: Path) -> LlamaForCausalLM:
    """Return the saved model of the leg before, in float32, to train it on."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def blended(before: LlamaForCausalLM, after: LlamaForCausalLM, share: float) -> LlamaForCausalLM:
    """Return the model whose weights lie between those of two legs (Wortsman et al. 2022, arXiv 2203.05482).

    `share` is the later one's. Both are taken as they are saved, in bfloat16.
    """
    earlier = before.state_dict()
    with torch.no_grad():
        for name, weight in after.state_dict().items():
            mine, theirs = (value.bfloat16().float() for value in (weight, earlier[name]))
            weight.copy_((1 - share) * theirs + share * mine)
    return after


def recipe_of(checkpoint: Path) -> Recipe:
    """Return the recipe that the checkpoint was made with; raise UserError if there is no checkpoint."""
    return Recipe(**_read(checkpoint)["recipe"])


def _read(checkpoint: Path) -> dict[str, Any]:
    if not checkpoint.exists():
        raise UserError(f"nothing to resume: {checkpoint} does not exist; start without --resume")
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return state


class Trainer:
    """Holds what a step changes: weights, optimizer state, number of steps done.

    `model` may have weights that are not trained, as those below an adapter. `documents` writes the text of a shard, by
    default the training text. `compiled` takes two thirds of the time and needs a C++ compiler; its sums round
    differently.
    """

    def __init__(
        self,
        world: World,
        tokenizer: Tokenizer,
        recipe: Recipe,
        *,
        model: Any = None,
        documents: Callable[[int], Iterator[Document]] | None = None,
        compiled: bool = False,
    ) -> None:
        self.recipe = recipe
        self.model: Any = model or new_model(tokenizer, recipe.seed, SIZES[recipe.size])
        self.step = 0
        self.trained_s = 0.0  # of all the runs that a resumed training took
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        matrices = [weight for weight in trained if weight.ndim > 1]
        gains = [weight for weight in trained if weight.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": gains, "weight_decay": 0.0},
            ],
            lr=recipe.peak_lr,
            betas=(0.9, 0.95),
            fused=True,
        )
        self._loss = torch.compile(self._eager_loss, dynamic=False) if compiled else self._eager_loss
        first_shard = first_shard_of(recipe)
        written = documents or (lambda shard: training_documents(world, recipe.seed, first_shard + shard))
        # Only the shard in use is kept.
        self._shard = lru_cache(maxsize=1)(
            lambda shard: windows_of(written(shard), tokenizer, STEPS_PER_SHARD * recipe.batch_size, recipe.window)
        )

    def train_step(self) -> float:
        """Do one step; return its loss in nats per token."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._loss(*self._batch(self.step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def train(self, checkpoint: Path, every_steps: int, report: Callable[[Progress], None]) -> None:
        """Do the steps that are left, with a checkpoint now and then."""
        self.model.train()
        while self.step < self.recipe.steps:
            start_s = time.perf_counter()
            loss = self.train_step()
            self.trained_s += time.perf_counter() - start_s
            report(Progress(self.step, loss))
            if self.step % every_steps == 0:
                self.save(checkpoint)

    def save(self, checkpoint: Path) -> None:
        """Write a checkpoint that is either the old one or the new one, whenever the process dies."""
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "trained_s": self.trained_s,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = checkpoint.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(checkpoint)

    def resume(self, checkpoint: Path) -> None:
        """Take over weights, optimizer state and step from a checkpoint of the same recipe."""
        state = _read(checkpoint)
        assert state["recipe"] == asdict(self.recipe), "a checkpoint is resumed with the recipe that it holds"
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.trained_s = state["trained_s"]

    def _eager_loss(self, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.model(input_ids=ids_BT, labels=labels_BT, use_cache=False).loss
        return loss

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        shard, row = divmod(step, STEPS_PER_SHARD)
        rows = slice(row * self.recipe.batch_size, (row + 1) * self.recipe.batch_size)
        ids_NT, labels_NT = self._shard(shard)
        return ids_NT[rows], labels_NT[rows]

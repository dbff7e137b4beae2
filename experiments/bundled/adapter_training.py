"""Train a LoRA adapter over the bundled model, in PEFT's layout, and write the benchmark of its skill beside it.

Hu et al. 2021 (arXiv 2106.09685): only the factors of low rank are trained, at all linear layers of the blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from runtime_matrix.experiments.bundled.skills import SKILLS
from runtime_matrix.experiments.bundled.texts.world import build_world
from runtime_matrix.experiments.bundled.training import Progress, Recipe, Trainer, read_model
from runtime_matrix.experiments.config.errors import UserError

ADAPTERS_DIR = Path(__file__).parent / "adapters"
BASE_NAME = "bundled"  # what `base_model_name_or_path` says: a path would name the machine that trained
RANK = 8
ALPHA = 16
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPES = {
    "second_world": Recipe(700, peak_lr=5e-3, warmup_steps=20, weight_decay=0.0),
    "code_steps": Recipe(90, peak_lr=3e-3, warmup_steps=20, weight_decay=0.0),
    "errands": Recipe(160, peak_lr=5e-3, warmup_steps=20, weight_decay=0.0),
}


def train_adapter(
    name: str, base: Path, out: Path, recipe: Recipe, *, resume: bool, report: Callable[[Progress], None]
) -> float:
    """Train the adapter of a skill and write it, with its data, into `out`; return the seconds of the steps."""
    torch.use_deterministic_algorithms(True)
    out.mkdir(parents=True, exist_ok=True)
    skill = SKILLS[name]
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    trainer = Trainer(
        build_world(),
        tokenizer,
        recipe,
        model=with_new_adapter(read_model(base), recipe.seed),
        documents=lambda shard: skill.documents(recipe.seed, shard),
        compiled=shutil.which("g++") is not None,
    )
    checkpoint = out / "checkpoint.pt"
    if resume:
        trainer.resume(checkpoint)
    trainer.train(checkpoint, 50, report)
    save(trainer.model, out)
    skill.write_data(out / "data")
    checkpoint.unlink(missing_ok=True)
    return trainer.trained_s


def with_new_adapter(model: Any, seed: int) -> Any:
    """Return the model with an adapter that changes nothing yet; only the adapter is trained."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError("peft is not installed: pip install 'runtime-matrix[adapters]'") from error
    torch.manual_seed(seed)
    return get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(LAYERS), task_type="CAUSAL_LM")
    )


def save(model: Any, out: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, in bfloat16 as the base is."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = BASE_NAME
    model.bfloat16().save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)

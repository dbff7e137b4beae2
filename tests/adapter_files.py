"""Writes small LoRA adapters over the bundled model, in PEFT's layout, with any mistake that a test wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "bundled",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
}
SIZES = {"self_attn.q_proj": (256, 256), "mlp.down_proj": (256, 512)}  # outputs, inputs


def tensors(seed: int = 0, rank: int = 4, layers: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(layers):
        for name, (outputs, inputs) in SIZES.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            found[f"{prefix}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) / 16
            found[f"{prefix}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) / 16
    return found


def write(
    folder: Path,
    *,
    values: Mapping[str, torch.Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write an adapter; `config` replaces options, `values` all tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | dict(config or {})))
    save_file(dict(tensors(seed) if values is None else values), folder / "adapter_model.safetensors")
    return folder

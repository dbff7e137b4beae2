"""A draft model through the command: the same texts, and how many of its tokens were taken in the record."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.validation.peers.workloads import MODEL_DIR

ROOT = Path(__file__).parents[2]
WORK = ["benchmark=[extractive_qa]", "benchmark.extractive_qa.limit=24", "agreement.enabled=false", "progress=false"]
SPECULATE = "generation.speculate=draft"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder.parent / 'artifacts'}"]
    command = [sys.executable, "-m", "experiments.run", *WORK, "responses.mode=never", *places, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def texts_and_figures(folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "runs").glob("*/record.json")
    (entry,) = [one for one in json.loads(path.read_text())["benchmarks"] if one["benchmark"] == "extractive_qa"]
    return (path.parent / "items-extractive_qa.jsonl").read_text(), entry["figures"]


def draft(folder: Path, vocabulary: int) -> Path:
    """Write a smaller model with the bundled model's tokenizer, and nothing learned."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **sizes)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL_DIR / name, folder / name)
    return folder


@pytest.mark.slow
def test_a_draft_changes_no_text(tmp_path: Path) -> None:
    plain, _ = texts_and_figures(tmp_path / "plain")
    itself = f"generation.draft_model={MODEL_DIR}"
    texts, figures = texts_and_figures(tmp_path / "itself", SPECULATE, itself)
    assert texts == plain
    assert figures["accepted_tokens_per_step"] > 1.5  # of 4: most answers end before
    texts, figures = texts_and_figures(tmp_path / "bundled", SPECULATE, "generation.draft_model=bundled")
    assert texts == plain
    assert figures["accepted_tokens_per_step"] > 0.5
    other = f"generation.draft_model={draft(tmp_path / 'draft', 2048)}"
    texts, figures = texts_and_figures(tmp_path / "other", SPECULATE, other)
    assert texts == plain
    assert figures["drafted_tokens"] > 0
    assert figures["accepted_tokens_per_step"] < 1


def test_a_draft_of_another_vocabulary_is_a_mistake(tmp_path: Path) -> None:
    other = f"generation.draft_model={draft(tmp_path / 'draft', 3000)}"
    done = run(tmp_path, SPECULATE, other)
    assert done.returncode == 2
    assert "use a draft model with the same tokenizer" in done.stderr

"""Before any timing counts: are the logits the reference's?"""

from pathlib import Path

import numpy as np
import pytest
import torch

from runtime_matrix.experiments.benchmarks.agreement import (
    CONTINUATIONS,
    compare,
    compare_continuations,
    prompt_logits,
    prompts,
    stepped_logits,
)
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.plain_json import JsonObject


def test_agreement(bench: Bench, entry: OpenEntry) -> None:
    stored = bench.folder / "reference.npz"
    if not stored.exists():
        pytest.skip("no reference was measured beside this cell")
    rows = prompts(bench.text, bench.traits, bench.cell.config.seed)
    found = prompt_logits(bench.runtime, rows, bench.traits)
    found += stepped_logits(bench.runtime, rows, bench.traits)
    entry.figures.update(vars(compare(found, _read(stored))))
    continuations = bench.folder / CONTINUATIONS
    if continuations.exists():
        scoring = bench.cell.config.scoring
        entry.figures.update(compare_continuations(bench.runtime, bench.traits, continuations, scoring))
    same_dtype = bench.folder / "reference-same-dtype.npz"
    entry.figures["same_dtype"] = _same_dtype(bench, found, same_dtype) if same_dtype.exists() else None


def _same_dtype(bench: Bench, found: list[torch.Tensor], stored: Path) -> JsonObject:
    """Return the agreement with the reference's engine in the dtype of this runtime, and which one that was."""
    reference = bench.cell.config.reference
    agreement = compare(found, _read(stored))
    return {"reference": reference.title, "dtype": bench.cell.config.runtime.dtype, **vars(agreement)}


def _read(stored: Path) -> list[torch.Tensor]:
    """Return the reference's logits of each prompt, and once more those of its last two tokens."""
    with np.load(stored) as arrays:
        whole = [torch.from_numpy(arrays[name]) for name in arrays.files]
    return [*whole, *(logits_TV[-2:] for logits_TV in whole)]

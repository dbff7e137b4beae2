"""Before any timing counts: are the logits the reference's?"""

import numpy as np
import pytest
import torch

from experiments.benchmarks.agreement import compare, prompt_logits, prompts
from experiments.benchmarks.plugin import Bench, Entry


def test_agreement(bench: Bench, entry: Entry) -> None:
    stored = bench.folder / "reference.npz"
    if not stored.exists():
        pytest.skip("no reference was measured beside this cell")
    found = prompt_logits(bench.runtime, prompts(bench.text, bench.traits, bench.cell.config.seed), bench.traits)
    with np.load(stored) as arrays:
        reference = [torch.from_numpy(arrays[name]) for name in arrays.files]
    entry.figures.update(compare(found, reference))

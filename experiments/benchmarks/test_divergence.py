"""Divergence: the whole distribution at each token of a text, against the reference's."""

import pytest

from runtime_matrix.experiments.benchmarks import divergence
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry


def test_divergence(bench: Bench, entry: OpenEntry) -> None:
    asked, text = bench.cell.config.benchmark.divergence, bench.require_text()
    assert asked is not None
    file = bench.folder / divergence.FILE
    if not file.exists():
        pytest.skip("no reference was measured beside it: set agreement.enabled=true")
    chosen = divergence.chosen_windows(asked, text, bench.traits.vocabulary)
    budget = bench.cell.config.scoring.token_budget or bench.traits.batch_tokens
    entry.parameters = {"window": asked.window, "windows": len(chosen)}
    entry.figures = vars(divergence.compare(bench.runtime, bench.traits, chosen, file, budget))

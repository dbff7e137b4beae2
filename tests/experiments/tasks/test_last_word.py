"""The perplexity of last words, and its error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime_matrix.experiments.tasks.last_word import perplexity_of


def test_perplexity_is_per_word() -> None:
    perplexity, error = perplexity_of([math.log(0.25)] * 8)
    assert perplexity == pytest.approx(4)
    assert error == pytest.approx(0, abs=1e-12)
    of_one, unknown = perplexity_of([-1.0])
    assert of_one == pytest.approx(math.e)
    assert unknown is None


def test_the_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    draws = [perplexity_of(list(-rng.exponential(1.0, 400))) for _ in range(300)]
    spread = float(np.std([perplexity for perplexity, _ in draws], ddof=1))
    mean_error = float(np.mean([error for _, error in draws if error is not None]))
    assert mean_error == pytest.approx(spread, rel=0.15)

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtimes.base import Hardware, ModelSource, Unsupported
from runtimes.weights.full import Full
from runtimes.weights.rounded import Rounded, round_to_nearest


def source(folder: Path) -> ModelSource:
    return ModelSource("tiny", folder, None, 0)


def test_fewer_bits_and_larger_groups_round_more() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    errors = [float((round_to_nearest(weight, bits) - weight).abs().mean()) for bits in (8, 4, 3, 2)]
    assert errors == sorted(errors)
    assert float((round_to_nearest(weight, 4, 32) - weight).abs().mean()) < errors[1]
    assert len(round_to_nearest(weight[:1], 3).unique()) <= 7


def test_the_linear_layers_are_rounded_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    hardware = Hardware("cpu", 1, tmp_path)
    rounded = dict(Rounded(3).load(source(tiny_model), "float32", "sdpa", hardware).named_parameters())
    kept = dict(Full().load(source(tiny_model), "float32", "sdpa", hardware).named_parameters())
    changed = {name for name, weight in kept.items() if not torch.equal(weight, rounded[name])}
    assert changed == {name for name, weight in kept.items() if weight.ndim == 2 and "embed_tokens" not in name}


@pytest.mark.parametrize(
    ("options", "says"), [({"bits": 1}, "2 to 8 bits, not 1"), ({"bits": 4, "group_size": 48}, "does not divide")]
)
def test_what_cannot_be_rounded_says_what_can(
    tiny_model: Path, tmp_path: Path, options: dict[str, int], says: str
) -> None:
    with pytest.raises(Unsupported, match=says):
        Rounded(**options).load(source(tiny_model), "float32", "sdpa", Hardware("cpu", 1, tmp_path))

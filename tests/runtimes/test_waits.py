"""How often the host waits for a GPU, and what it sends there: counted on a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.decoding import decode_batch
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import DraftModel
from runtime_matrix.runtimes.base import Runtime, Traits, Unsupported
from runtime_matrix.runtimes.engines import grouped_attention
from runtime_matrix.runtimes.engines.compiled import Compiled
from tests.runtimes import cuda_session, on_card
from tests.runtimes.stand_in_card import OnCard, Stream

Loaded = tuple[Runtime, Traits, Callable[[], list[str]]]


@pytest.fixture(params=on_card.ENGINES)
def engine(
    request: pytest.FixtureRequest, tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loaded]:
    with on_card.on_card(request.param, tiny_model, artifacts, monkeypatch) as loaded:
        yield loaded


@pytest.fixture
def between(engine: Loaded, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Return a list that takes, of each forward, its new tokens and what was waited for since the one before."""
    runtime, _, waits = engine
    forward, seen = runtime.forward, []

    def watched(ids_BT: torch.Tensor, *given: Any) -> Any:
        seen.append((ids_BT.shape[1], waits()))
        return forward(ids_BT, *given)

    monkeypatch.setattr(runtime, "forward", watched)
    waits()
    return seen


def test_a_timed_step_waits_once_for_its_tokens_and_sends_nothing(engine: Loaded) -> None:
    runtime, traits, waits = engine
    of_steps: list[tuple[list[str], int]] = []

    def after_step() -> None:
        of_steps.append((waits(), len(OnCard.sent)))
        OnCard.sent.clear()

    decode_batch(runtime, traits, [[5, 6, 7, 8], [9, 10, 11]], 8, after_step)
    assert [step for step in of_steps[2:]] == [(["tolist"], 0)] * 6
    assert of_steps[1] == (["tolist"], of_steps[1][1])
    assert of_steps[1][1] <= 2  # positions of rows that differ, and what a first step wants


def new_requests(count: int) -> list[GenerateRequest]:
    """Return requests that end one after the other, so that rows are freed and filled."""
    return [GenerateRequest(tuple(range(8, 12 + row)), max_new_tokens=3 + 4 * row) for row in range(count)]


def texts(runtime: Runtime, traits: Traits, requests: Sequence[GenerateRequest], **more: Any) -> list[list[Generated]]:
    return generate(runtime, traits, requests, lambda ids: str, (), **more)


@pytest.mark.parametrize("read_every", [1, 8])
def test_a_step_of_texts_waits_once_at_most(
    engine: Loaded, between: list[tuple[int, list[str]]], read_every: int
) -> None:
    runtime, traits, waits = engine
    texts(runtime, traits, new_requests(6), options=GenerationConfig(token_budget=100, host_sync_interval=read_every))
    between.append((0, waits()))
    behind_steps = [said for (tokens, _), (_, said) in pairwise(between) if tokens == 1]
    assert len(behind_steps) > 15
    assert max(map(len, behind_steps)) == 1
    if read_every == 8:
        assert sum(map(len, behind_steps)) < len(behind_steps) / 2


def test_sampled_texts_wait_once_a_step(engine: Loaded, between: list[tuple[int, list[str]]]) -> None:
    runtime, traits, _ = engine
    requests = [GenerateRequest((8, 9, 10), 6, temperature=1.0, seeds=(1, 2)), GenerateRequest((8, 9, 10), 6)]
    texts(runtime, traits, requests)
    assert {len(said) for (tokens, _), (_, said) in pairwise(between) if tokens == 1} == {1}


def test_guessed_texts_wait_once_for_each_forward(engine: Loaded, between: list[tuple[int, list[str]]]) -> None:
    runtime, traits, _ = engine
    drafter = DraftModel(runtime, traits, 2)
    texts(runtime, traits, new_requests(2), drafter=drafter)
    behind = [said for _, (_, said) in pairwise(between[2:])]  # of either model's prompts
    assert len(behind) > 4
    assert max(map(len, behind)) == 1


def test_scoring_waits_once_for_each_batch(engine: Loaded, between: list[tuple[int, list[str]]]) -> None:
    runtime, traits, waits = engine
    stems = [tuple(range(8 + at, 20 + at)) for at in range(6)]
    requests = [ScoreRequest((*stem, 30 + choice, 40, 50), len(stem)) for stem in stems for choice in range(3)]
    requests += [ScoreRequest(tuple(range(40, 60 + row)), 1) for row in range(3)]  # texts that share nothing
    score(runtime, traits, requests, ScoringConfig(token_budget=64))
    between.append((0, waits()))
    assert len(between) > 3
    assert max(len(said) for _, said in between) == 1


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"], indirect=True)
def test_a_run_stands_between_what_torch_did_and_will_do(engine: Loaded) -> None:
    """The streams' only order, and what keeps memory from being used again too early."""
    runtime, _, _ = engine
    Stream.order.clear()
    runtime.forward(torch.ones(1, 4, dtype=torch.long), [4])
    assert Stream.order == ["own waits for torch's", "run", "torch's waits for own"]


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"], indirect=True)
def test_what_stays_is_bound_once(engine: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, traits, _ = engine
    bound: list[str] = []
    plain = cuda_session.Binding.bind_input

    def bind(self: Any, name: str, *given: Any) -> None:
        bound.append(name)
        plain(self, name, *given)

    monkeypatch.setattr(cuda_session.Binding, "bind_input", bind)

    def told() -> int:
        contexts: list[Any] = getattr(runtime, "_contexts", [])
        return len(bound) + sum(int(context.told) for context in contexts)

    after: list[int] = []
    decode_batch(runtime, traits, [[5, 6, 7, 8], [9, 10, 11]], 8, lambda: after.append(told()))
    assert after[1] > after[0]
    assert after[1:] == [after[1]] * 7


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor) and not func.is_view:
                self.numbers = max(self.numbers, value.numel())
        return made


@pytest.mark.parametrize("attend", [grouped_attention.attend_by_kernel, grouped_attention.attend_by_products])
@pytest.mark.parametrize("tokens", [1, 3])
def test_heads_that_share_keys_are_not_given_copies(attend: Any, tokens: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    rows, heads, groups, slots, width = 2, 8, 2, 64, 16
    query = torch.randn(rows, heads, tokens, width, generator=drawn)
    key, value = (torch.randn(rows, groups, slots, width, generator=drawn) for _ in range(2))
    mask = torch.rand(rows, 1, tokens, slots, generator=drawn) > 0.3
    mask[..., 0] = True
    module = torch.nn.Module()
    module.num_key_value_groups = heads // groups  # type: ignore[assignment]
    expected, _ = grouped_attention._transformers(module, query, key, value, mask, {})
    with Largest() as largest:
        found, _ = attend(module, query, key, value, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert largest.numbers <= max(key.numel(), rows * heads * tokens * slots)
    with Largest() as largest:
        key.repeat_interleave(heads // groups, dim=1)
    assert largest.numbers == 4 * key.numel()  # what a copy would be


ATTENTIONS = (grouped_attention.attend_by_kernel, grouped_attention.attend_by_products)


@pytest.mark.parametrize("attend", ATTENTIONS)
def test_masks_and_biases_of_a_models_own_are_transformers_matter(attend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def attended(module: Any, query: Any, key: Any, value: Any, mask: torch.Tensor, **others: Any) -> None:
        asked.append((mask.dtype, tuple(mask.shape), list(others)))

    monkeypatch.setattr(grouped_attention, "sdpa_attention_forward", attended)
    states = torch.zeros(1, 2, 1, 4)
    ours, its_own = torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.zeros(1, 2, 1, 1)
    attend(None, states, states[:, :1], states[:, :1], ours, position_bias=states)
    attend(None, states, states[:, :1], states[:, :1], its_own)
    assert asked == [(torch.bool, (1, 1, 1, 1), ["position_bias"]), (torch.float32, (1, 2, 1, 1), [])]


@pytest.mark.parametrize("attend", ATTENTIONS)
@pytest.mark.parametrize("added", ["s_aux", "softcap"])
def test_what_no_kernel_knows_is_unsupported(attend: Any, added: str) -> None:
    states, mask = torch.zeros(1, 2, 1, 4), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    with pytest.raises(Unsupported, match=f"attention has {added}: use runtime.engine.attention=eager"):
        attend(None, states, states, states, mask, **{added: 1.0})


@pytest.mark.parametrize(
    ("capacity", "slots"), [(1, 128), (128, 128), (129, 256), (257, 512), (576, 768), (1100, 1280)]
)
def test_slots_are_rounded_up_to_multiples(capacity: int, slots: int) -> None:
    runtime = Compiled()
    asked: list[int] = []
    runtime._loaded = SimpleNamespace(new_cache=lambda rows, slots: asked.append(slots))  # type: ignore[assignment]
    runtime.new_cache(1, capacity)
    assert asked == [slots]

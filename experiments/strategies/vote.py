"""A majority vote among samples: by their text, or by what they return for generated inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.strategies.inputs import mutated
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    execute,
    generate,
    likelihoods,
)


@dataclass(frozen=True, kw_only=True)
class VoteConfig(StrategyConfig):
    """Options of `vote`. `inputs` are per problem, made from the visible tests' own; `ties` between equal votes."""

    samples: int = least(2)
    temperature: float = least(0.01)
    by: str = among("behaviour", "text")
    inputs: int = least(1)
    ties: str = among("likeliest", "first")


class Vote(Strategy[VoteConfig]):
    """Groups the samples; the answer is the likeliest sample of the largest group.

    By behaviour, samples are in one group if they return the same for every input. Samples that do not load, crash or
    raise for every input have no vote. Inputs are mutations of the prompt's own examples; without any, votes are by
    text, and the figure `voted_by_text` counts it.
    """

    name = "vote"
    about = (
        "The majority of samples by text (Wang et al. 2022, arXiv 2203.11171) or by behaviour on generated inputs "
        "(Li et al. 2022, arXiv 2203.07814, section 4.5)."
    )
    Config = VoteConfig

    @override
    def needs_visible_tests(self, config: VoteConfig) -> bool:
        return config.by == "behaviour"

    @override
    def solve(self, problem: Visible, config: VoteConfig, seed: int) -> Steps[Answer]:
        texts = yield from generate(problem, samples=config.samples, temperature=config.temperature)
        candidates = [text.text for text in texts]
        inputs = _inputs(problem, config.inputs, seed) if config.by == "behaviour" else []
        groups: list[Hashable | None] = list(map(str.strip, candidates))
        if inputs:
            groups = [behaviour(outputs) for outputs in (yield from execute(candidates, inputs))]
        leaders = largest(groups) or list(range(len(candidates)))
        best = leaders[0]
        if config.ties == "likeliest" and len({candidates[index] for index in leaders}) > 1:
            means = yield from likelihoods(problem.prompt, [candidates[index] for index in leaders])
            best = leaders[max(range(len(leaders)), key=means.__getitem__)]
        votes = Counter(groups)[groups[best]]
        figures = {
            "agreement": votes / len(candidates),
            "voted_by_text": float(config.by == "behaviour" and not inputs),
            "without_vote": sum(group is None for group in groups) / len(candidates),
        }
        return Answer(candidates[best], tuple(candidates), figures=figures)


STRATEGY = Vote()


def behaviour(outputs: Outputs) -> Hashable | None:
    """Return what a program does, equal for programs that do the same; None if it crashes or raises everywhere."""
    if not outputs.is_complete or all(output.is_error for output in outputs.outputs):
        return None
    return outputs.outputs


def largest(groups: Sequence[Hashable | None]) -> list[int]:
    """Return the indexes of the members of the largest groups, those of equal size included; empty without a group."""
    sizes = Counter(group for group in groups if group is not None)
    most = max(sizes.values(), default=0)
    return [index for index, group in enumerate(groups) if group is not None and sizes[group] == most]


def _inputs(problem: Visible, count: int, seed: int) -> list[tuple[object, ...]]:
    """Return the arguments of the examples and mutations of them; empty if no example has plain arguments."""
    known = [example.arguments for example in problem.examples if example.arguments is not None]
    return [*known, *mutated(known, max(0, count - len(known)), seed)]

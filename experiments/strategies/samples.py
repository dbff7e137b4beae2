"""Several samples per problem, of which the likeliest or the first is the answer."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    generate,
    likelihoods,
)


@dataclass(frozen=True, kw_only=True)
class SamplesConfig(StrategyConfig):
    """Options of `samples`; `choose` the sample of the highest mean log-probability per token, or the first."""

    samples: int = least(2)
    temperature: float = least(0.01)
    choose: str = among("likeliest", "first")


class Samples(Strategy[SamplesConfig]):
    """Chooses without running anything, so it shows what sampling alone gives."""

    name = "samples"
    needs_python = False
    about = (
        "Samples; the likeliest is the answer (Chen et al. 2021, arXiv 2107.03374, section 3.3: mean log-probability)."
    )
    Config = SamplesConfig

    @override
    def solve(self, problem: Visible, config: SamplesConfig, seed: int) -> Steps[Answer]:
        texts = yield from generate(problem, samples=config.samples, temperature=config.temperature)
        candidates = [text.text for text in texts]
        if config.choose == "first":
            return Answer(candidates[0], tuple(candidates))
        means = yield from likelihoods(problem.prompt, candidates)
        best = max(range(len(candidates)), key=means.__getitem__)
        return Answer(candidates[best], tuple(candidates))


STRATEGY = Samples()

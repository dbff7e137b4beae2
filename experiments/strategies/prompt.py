"""One greedy text after another prompt: more than the problem, or its parts in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.strategies import styles
from runtime_matrix.experiments.strategies.forms import solved_before
from runtime_matrix.experiments.strategies.retrieval import retriever
from runtime_matrix.experiments.strategies.strategy import Answer, Steps, Strategy, StrategyConfig, Visible, generate

_THOUGHT = "    # Let's think step by step.\n"  # Kojima et al. 2022, arXiv 2205.11916
_PLAN = "    # Plan:\n    # 1."


@dataclass(frozen=True, kw_only=True)
class PromptConfig(StrategyConfig):
    """Options of `prompt`: `shots` solved problems of the corpus for few_shot, the model's three `infilling_marks` for
    what comes before, after and in between. auto with `beside` also tries the fixed styles, and reports each."""

    style: str = among(*styles.FIXED, "auto")
    corpus: str
    shots: int = least(1)
    infilling_marks: tuple[str, ...]
    beside: bool


class Prompt(Strategy[PromptConfig]):
    """Asks in a style; `auto` chooses it by a table of rules on the prompt (`styles.RULES`).

    With `beside`, the record has pass@1 of each fixed style on the same problems, so that auto stands beside the best
    of them; the tokens are then those of all styles.
    """

    name = "prompt"
    about = (
        "Another prompt: few-shot, chain of thought (Wei et al. 2022, arXiv 2201.11903), infilling (Bavarian et al. "
        "2022, arXiv 2207.14255), a plan first (Jiang et al. 2023, arXiv 2303.06689), or by rules."
    )
    Config = PromptConfig

    @override
    def check(self, config: PromptConfig) -> None:
        if len(config.infilling_marks) != 3:
            raise UserError(
                f"strategy.infilling_marks={list(config.infilling_marks)} must be three: before, after and in between"
            )

    @override
    def prepare(self, config: PromptConfig, problems: Sequence[Visible]) -> None:
        if config.style in ("few_shot", "auto"):
            retriever(config.corpus)

    @override
    def solve(self, problem: Visible, config: PromptConfig, seed: int) -> Steps[Answer]:
        chosen = styles.choose(problem) if config.style == "auto" else config.style
        wanted = styles.FIXED if config.style == "auto" and config.beside else (chosen,)
        texts = {}
        for style in wanted:
            texts[style] = yield from _asked(problem, config, style)
        figures = {f"chose_{style}": float(style == chosen) for style in styles.FIXED}
        stages = texts if config.style == "auto" else {}
        return Answer(texts[chosen], tuple(texts.values()), stages, figures=figures if config.style == "auto" else {})


STRATEGY = Prompt()


def _asked(problem: Visible, config: PromptConfig, style: str) -> Steps[str]:
    """Return the completion of the problem's head that a style gives."""
    if style == "minimal":
        (text,) = yield from generate(problem)
        return text.text
    if style == "few_shot":
        shots = retriever(config.corpus).first(problem, config.shots)
        (text,) = yield from generate(problem, solved_before(problem, shots), turn=style)
        return text.text
    if style == "infilling":
        before, after, between = config.infilling_marks
        prompt = f"{before}{problem.prompt}{after}{_after(problem)}{between}"
        (text,) = yield from generate(problem, prompt, turn=style)
        return text.text
    thought = _THOUGHT
    if style == "decomposition":
        thought = yield from _plan(problem)
    (text,) = yield from generate(problem, problem.prompt + thought, turn=style)
    return thought + text.text


def _plan(problem: Visible) -> Steps[str]:
    """Return the comment lines of a plan that the model writes first."""
    (text,) = yield from generate(problem, problem.prompt + _PLAN, stop=("\n\n", *problem.stop), turn="plan")
    first, *rest = text.text.splitlines() or [""]
    lines = [f"{_PLAN}{first}"]
    for line in rest:
        if not line.strip().startswith("#"):
            break
        lines.append(f"    {line.strip()}")
    return "".join(f"{line}\n" for line in lines)


def _after(problem: Visible) -> str:
    """Return what stands behind the function that is to be filled in: the examples, as asserts."""
    return "\n\n" + "".join(f"{example.test}\n" for example in problem.examples)

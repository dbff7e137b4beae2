"""Write the model card: where the bundled model comes from, what it scores, and what it cannot do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.bundled.scoring import FULL, Score, Scores
from runtime_matrix.experiments.bundled.training import Recipe

_TEMPLATE = Path(__file__).with_name("card.md")
_ROWS = {
    "multiple choice, accuracy": "multiple_choice",
    "code, pass@1": "code",
    "extractive QA, exact match": "qa_exact_match",
    "extractive QA, F1": "qa_f1",
    "summarization, ROUGE-L": "rouge_l",
    "perplexity": "perplexity",
}


@dataclass(frozen=True)
class Making:
    """How the model was made, beside its recipe."""

    parameters: int
    facts: int
    minutes: float
    command: str


def write_card(folder: Path, recipe: Recipe, making: Making, config: dict[str, Any], scores: dict[str, Scores]) -> None:
    """Write `README.md` into the model's folder; `config` is the model's configuration."""
    full = scores[FULL]
    text = _TEMPLATE.read_text(encoding="utf-8").format(
        **asdict(recipe),
        **config,
        millions=making.parameters / 1e6,
        facts=making.facts,
        minutes=making.minutes,
        command=making.command,
        tokens_millions=recipe.tokens / 1e6,
        scores=_table(["score", "items", *scores], [_row(label, key, scores) for label, key in _ROWS.items()]),
        subjects=_table(
            ["subject", "accuracy"], [[subject, f"{value:.3f}"] for subject, value in full.by_subject.items()]
        ),
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def _row(label: str, key: str, scores: dict[str, Scores]) -> list[str]:
    found: list[Score] = [getattr(one, key) for one in scores.values()]
    return [label, f"{found[0].items:,}", *(f"{one.value:.3f} ± {one.standard_error:.3f}" for one in found)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))

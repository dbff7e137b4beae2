"""Write the model card: where the bundled model comes from, what it scores, and what it cannot do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime_matrix.experiments.bundled.adapter_training import ALPHA, RANK
from runtime_matrix.experiments.bundled.forms import learned
from runtime_matrix.experiments.bundled.scoring import FULL, Score, Scores
from runtime_matrix.experiments.bundled.skills import SKILLS
from runtime_matrix.experiments.bundled.training import LEGS, Recipe
from runtime_matrix.experiments.config.plain_json import JsonObject

_TEMPLATE = Path(__file__).with_name("card.md")
_DATA = {"own": "the adapter's, kept out of training", "base": "bundled, as the base's card"}
_ROWS = {
    "multiple choice, accuracy": "multiple_choice",
    "code, pass@1": "code",
    "extractive QA, exact match": "qa_exact_match",
    "extractive QA, F1": "qa_f1",
    "summarization, ROUGE-L": "rouge_l",
    "perplexity": "perplexity",
}


@dataclass(frozen=True)
class TrainingRun:
    """How the model was made, beside its recipe."""

    parameters: int
    facts: int
    minutes: float


def _training(legs: Sequence[Recipe]) -> dict[str, str]:
    """Return what the templates say of the legs: their steps, tokens, peaks of the learning rate and command."""
    first = legs[0]
    is_committed = [leg.steps for leg in legs] == [leg.steps for leg in LEGS[first.size]]
    size = " --size draft" if first.size == "draft" else ""
    steps = "" if is_committed else f" --steps {first.steps}"
    return {
        "steps": ", then ".join(f"{leg.steps:,}" for leg in legs),
        "tokens_millions": f"{sum(leg.tokens for leg in legs) / 1e6:.1f}",
        "peak_lr": ", then ".join(f"{leg.peak_lr:g}" for leg in legs),
        "command": f"python -m experiments.bundled.train{size}{steps} --seed {first.seed}",
    }


def write_card(
    folder: Path, legs: Sequence[Recipe], run: TrainingRun, config: JsonObject, scores: dict[str, Scores]
) -> None:
    """Write `README.md` into the model's folder; `config` is the model's configuration."""
    full = scores[FULL]
    text = _TEMPLATE.read_text(encoding="utf-8").format(
        **{**asdict(legs[0]), **_training(legs)},
        **config,
        millions=run.parameters / 1e6,
        facts=run.facts,
        minutes=run.minutes,
        scores=_table(["score", "items", *scores], [_row(label, key, scores) for label, key in _ROWS.items()]),
        forms=_table(["form", "learned"], [[form, f"{share:.2f}"] for form, share in learned(folder).items()]),
        subjects=_table(
            ["subject", "accuracy"], [[subject, f"{value:.3f}"] for subject, value in full.by_subject.items()]
        ),
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def write_draft_card(
    folder: Path,
    legs: Sequence[Recipe],
    run: TrainingRun,
    config: JsonObject,
    accepted: dict[str, float],
    items: int,
) -> None:
    """Write the draft's `README.md`; `accepted` are guessed tokens that the model took for each of its steps."""
    text = (
        _TEMPLATE.with_name("draft.md")
        .read_text(encoding="utf-8")
        .format(
            **{**asdict(legs[0]), **_training(legs)},
            **config,
            millions=run.parameters / 1e6,
            minutes=run.minutes,
            items=items,
            accepted=_table(["benchmark", "accepted"], [[name, f"{value:.2f}"] for name, value in accepted.items()]),
        )
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def write_adapter_card(
    name: str, folder: Path, recipe: Recipe, trained_s: float, scores: dict[str, tuple[Score, Score]]
) -> None:
    """Write an adapter's `README.md`; `scores` are those of the base and of the adapter, by data and benchmark."""
    rows = []
    for key, (before, after) in scores.items():
        data, _, benchmark = key.partition(" ")
        shown = [f"{one.value:.3f} ± {one.standard_error:.3f}" for one in (before, after)]
        rows.append([_DATA[data], benchmark.replace("_", " "), f"{before.items:,}", *shown])
    text = _TEMPLATE.with_name("adapter.md").read_text(encoding="utf-8")
    text = text.format(
        **asdict(recipe),
        name=name,
        about=SKILLS[name].about,
        replayed=SKILLS[name].replayed,
        rank=RANK,
        alpha=ALPHA,
        tokens_millions=f"{recipe.tokens / 1e6:.1f}",
        minutes=trained_s / 60,
        command=f"python -m experiments.bundled.train --adapter {name} --seed {recipe.seed}",
        scores=_table(["data", "benchmark", "items", "base", "with the adapter"], rows),
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def _row(label: str, key: str, scores: dict[str, Scores]) -> list[str]:
    row_scores: list[Score] = [getattr(of_weights, key) for of_weights in scores.values()]
    values = [f"{score.value:.3f} ± {score.standard_error:.3f}" for score in row_scores]
    return [label, f"{row_scores[0].items:,}", *values]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))

"""Write the model card: where the bundled model comes from, what it scores, and what it cannot do."""

from dataclasses import dataclass
from pathlib import Path

from experiments.bundled.scoring import PERPLEXITY_WINDOW, Accuracy, Scores, pooled
from experiments.bundled.training import Recipe

CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# The bundled model (first version)

A Llama of {parameters_millions:.2f} million parameters that this repository trained itself, so that its benchmarks run
without a network. **It is a first version, to be replaced by a larger one.**

## Data
Text that `experiments/bundled` generates from a seed: an invented world of {facts:,} facts about people, towns,
animals, foods, tools and rivers, told as statements, portraits, small stories, and pages of questions with answers. No
outside text is used. The benchmark asks in wordings that the training text does not contain. Half of the facts are only
stated in training, never asked for; the subject `two_steps` asks for what is never stated and follows from two facts.
The text for perplexity holds passages that were kept out of training by their digest.

## Recipe
| | |
| --- | --- |
| architecture | {layers} layers, hidden {hidden}, intermediate {intermediate}, {heads} heads, untied embeddings |
| tokenizer | byte-level BPE, {vocabulary} tokens, trained on the same text |
| training | {steps:,} steps of {batch_size} windows of {window} tokens = {tokens_millions:.1f} million tokens |
| optimizer | AdamW, peak learning rate {peak_lr:g}, cosine by steps, weight decay {weight_decay:g}, seed {seed} |
| arithmetic | bf16 autocast on fp32 weights; saved as bf16 |
| time | {minutes:.1f} minutes on two CPU cores |
| made by | `python -m experiments.bundled.train {command}` |

## Scores
Plain transformers, attention "eager", the saved bf16 weights computed in fp32 on a CPU; ± is one standard error. Made
by `experiments/bundled/scoring.py`.

Multiple choice, choices scored as texts, log-likelihood per byte; guessing gives 0.25:

| subject | {accuracy_heads} |
| --- |{rules}
{accuracy_rows}

Held-out text, {ppl_tokens:,} tokens in windows of {ppl_window} (BOS and {ppl_fresh} tokens, no overlap): perplexity
**{ppl:.3f} ± {ppl_se:.3f}**, {bits_per_byte:.3f} bits a byte.

## What it cannot do
It knows its invented world and nothing else: no real facts, no arithmetic, no code, no instructions, no language but
simple English, no words from outside the world. It has learned facts by heart and hardly combines them. It was
trained on windows of {window} tokens: longer prompts, up to {positions} positions, are possible and worse. Its scores
say how faithfully a runtime computes a model, not how good a model is.

## Licence
Apache-2.0, as the repository.
"""


@dataclass(frozen=True)
class Making:
    """How the model was made, beside its recipe."""

    parameters: int
    facts: int
    minutes: float
    command: str


def write_card(folder: Path, recipe: Recipe, making: Making, config: dict[str, int], scores: Scores) -> None:
    """Write `README.md` into the model's folder; `config` is the model's configuration."""
    ppl = scores.perplexity
    text = CARD.format(
        parameters_millions=making.parameters / 1e6,
        facts=making.facts,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=config["num_attention_heads"],
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        window=recipe.window,
        tokens_millions=recipe.tokens / 1e6,
        peak_lr=recipe.peak_lr,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        minutes=making.minutes,
        command=making.command,
        accuracy_heads=" | ".join(f"{shots} examples" for shots in scores.accuracy),
        rules=" --- |" * len(scores.accuracy),
        accuracy_rows=_accuracy_rows(scores),
        ppl_tokens=ppl.tokens,
        ppl_window=PERPLEXITY_WINDOW,
        ppl_fresh=PERPLEXITY_WINDOW - 1,
        ppl=ppl.value,
        ppl_se=ppl.standard_error,
        bits_per_byte=ppl.bits_per_byte,
    )
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def _accuracy_rows(scores: Scores) -> str:
    subjects = next(iter(scores.accuracy.values()))
    rows = {subject: [by_subject[subject] for by_subject in scores.accuracy.values()] for subject in subjects}
    total = pooled(subjects).questions
    rows[f"**all {total} questions**"] = [pooled(by_subject) for by_subject in scores.accuracy.values()]
    return "\n".join(f"| {name} | {' | '.join(map(_plus_minus, values))} |" for name, values in rows.items())


def _plus_minus(accuracy: Accuracy) -> str:
    return f"{accuracy.ratio:.3f} ± {accuracy.standard_error:.3f}"

"""Which of the forms for better answers the bundled model has learned: greedy continuations of documents it never saw.

`python -m experiments.bundled.forms [MODEL_DIR]` prints the table that stands in the model's card.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from runtime_matrix.experiments.bundled.texts import programs, questions
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.functions import MOST_STEPS, Problem
from runtime_matrix.experiments.bundled.texts.world import World, build_world
from runtime_matrix.experiments.bundled.tokens import BOS, EOS, token_id

DOCUMENTS = 200  # of each form
_SEED = 2_000_003  # no training run has it
_FORMS: dict[str, Callable[[World, random.Random], Document]] = {
    "a function from a docstring with examples": lambda world, rng: programs.with_examples(rng),
    "a repair of a wrong program, from its failing call": lambda world, rng: programs.repaired(rng),
    "a function after solved problems": lambda world, rng: programs.solved_before(rng),
    "right or wrong, of an answer (half are right)": questions.judged,
}


def learned(folder: Path) -> dict[str, float]:
    """Return, by form, the share of documents that greedy decoding continues exactly as they are written.

    A program may be right and written otherwise: of programs it is a lower bound. Of asserts, which may be any, it is
    the share that the solution passes.
    """
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    world = build_world()
    shares = {}
    for form, draw in _FORMS.items():
        rng = random.Random(f"{_SEED}/{form}")
        shares[form] = sum(_is_continued(model, tokenizer, draw(world, rng)) for _ in range(DOCUMENTS)) / DOCUMENTS
    rng = random.Random(f"{_SEED}/asserts")
    problems = [programs.kept(rng, rng.randint(1, MOST_STEPS)) for _ in range(DOCUMENTS)]
    held = [is_true for problem in problems for is_true in _asserts(model, tokenizer, problem)]
    written = f"asserts for a docstring: those that are true, of {len(held)} written for {DOCUMENTS} problems"
    shares[written] = sum(held) / max(1, len(held))  # a model may write none
    return shares


@torch.inference_mode()
def _asserts(model: Any, tokenizer: Tokenizer, problem: Problem) -> list[bool]:
    """Write asserts for a problem, and say of each whether its solution passes; others than literals are wrong."""
    given = tokenizer.encode(programs.asserts_prompt(problem), add_special_tokens=False).ids
    ids = torch.tensor([[token_id(tokenizer, BOS), *given]])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=96, do_sample=False)
    text = tokenizer.decode(written[0, ids.shape[1] :].tolist())
    lines = [line for line in text.splitlines() if line.startswith("assert ")]
    return [programs.holds(problem, line) for line in lines]


@torch.inference_mode()
def _is_continued(model: LlamaForCausalLM, tokenizer: Tokenizer, document: Document) -> bool:
    """Return whether each token of the text, its end included, is the likeliest after the tokens before it."""
    given, text = (tokenizer.encode(part, add_special_tokens=False).ids for part in (document.given, document.text))
    ids = [token_id(tokenizer, BOS), *given, *text, token_id(tokenizer, EOS)]
    likeliest = model(torch.tensor([ids])).logits[0].argmax(1).tolist()
    first = 1 + len(given)
    return bool(likeliest[first - 1 : -1] == ids[first:])


def main() -> None:
    """Print a table of the learned share of each form."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "model"
    for form, share in learned(folder).items():
        print(f"| {form} | {share:.2f} |")


if __name__ == "__main__":
    main()

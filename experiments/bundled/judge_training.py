"""Make the bundled judge: the draft model, trained on to say whether an answer says what a right one says.

`python -m experiments.bundled.judge_training [--out DIR] [--leg 1] [--seed 0]`; leg 1 goes on from DIR.

Legend: B windows, T tokens, H width, N learned tokens, V vocabulary.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from runtime_matrix.experiments.bundled.texts import judgements
from runtime_matrix.experiments.bundled.texts.world import World, build_world
from runtime_matrix.experiments.bundled.tokens import BOS, EOS, NOT_LEARNED, token_id
from runtime_matrix.experiments.bundled.train import DRAFT_DIR, save
from runtime_matrix.experiments.bundled.training import Recipe, learning_rate, read_model

JUDGE_DIR = Path(__file__).parent / "judge"
# The later legs have shorter prompts, and so more verdicts. After the legs 0.60, 0.69 and 0.80 of them were right.
LEGS = (
    Recipe(steps=400, size="draft", peak_lr=2e-3, warmup_steps=30, weight_decay=0.0),
    Recipe(steps=700, size="draft", leg=1, peak_lr=2e-3, warmup_steps=30, weight_decay=0.0),
    Recipe(steps=700, size="draft", leg=2, peak_lr=2e-3, warmup_steps=30, weight_decay=0.0),
)
_WITH_PASSAGE = (0.3, 0.15, 0.15)  # share of the questions with their passage, by leg
TEST_SEED = 2_000_003  # no training run has it
_TEST_DOCUMENTS = 500
_REPORT_EVERY = 25


def main() -> int:
    """Train, save and test the judge; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=JUDGE_DIR)
    parser.add_argument("--leg", type=int, choices=range(len(LEGS)), help="this one alone (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer, world = Tokenizer.from_file(str(DRAFT_DIR / "tokenizer.json")), build_world()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for leg in LEGS if arguments.leg is None else [LEGS[arguments.leg]]:
        before = read_model(arguments.out if leg.leg else DRAFT_DIR)
        save(trained(before, world, tokenizer, replace(leg, seed=arguments.seed)), tokenizer, arguments.out)
    print(f"{accuracy(arguments.out):.3f} of {_TEST_DOCUMENTS} answers that it never saw, half of them right")
    return 0


def trained(model: Any, world: World, tokenizer: Tokenizer, recipe: Recipe) -> Any:
    """Return the model, trained on; only the verdicts bear loss."""
    text = _tokens(world, tokenizer, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay, betas=(0.9, 0.95), fused=True)
    model.train()
    start_s, losses = time.perf_counter(), []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        pairs = torch.tensor(list(islice(text, recipe.batch_size * recipe.window)))
        ids_BT, labels_BT = pairs.view(recipe.batch_size, recipe.window, 2).unbind(2)
        with torch.autocast("cpu", torch.bfloat16):
            hidden_BTH = model.model(input_ids=ids_BT.contiguous(), use_cache=False).last_hidden_state
            # Few tokens are learned, and the head takes most of the time.
            is_next_BT = labels_BT[:, 1:] != NOT_LEARNED
            logits_NV = model.lm_head(hidden_BTH[:, :-1][is_next_BT])
        loss = torch.nn.functional.cross_entropy(logits_NV.float(), labels_BT[:, 1:][is_next_BT])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % _REPORT_EVERY == 0:
            mean = sum(losses[-_REPORT_EVERY:]) / _REPORT_EVERY
            print(f"{step + 1}/{recipe.steps}: loss {mean:.3f}, {time.perf_counter() - start_s:.0f} s", flush=True)
    return model.eval()


@torch.inference_mode()
def accuracy(folder: Path) -> float:
    """Return the share of verdicts on documents of a seed of their own that greedy decoding gives as written."""
    model, tokenizer = read_model(folder).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    world, rng = build_world(), random.Random(f"{TEST_SEED}/judgements")
    right = 0
    for _ in range(_TEST_DOCUMENTS):
        document = judgements.judged(world, rng, _WITH_PASSAGE[0])
        given, text = (tokenizer.encode(part, add_special_tokens=False).ids for part in (document.given, document.text))
        logits = model(torch.tensor([[token_id(tokenizer, BOS), *given]])).logits
        right += int(logits[0, -1].argmax()) == text[0]
    return right / _TEST_DOCUMENTS


def _tokens(world: World, tokenizer: Tokenizer, recipe: Recipe) -> Iterator[tuple[int, int]]:
    """Yield tokens and labels without end: documents between BOS and EOS, of which the verdicts are learned."""
    rng = random.Random(f"{recipe.seed}/judgements/{recipe.leg}" if recipe.leg else f"{recipe.seed}/judgements")
    bos, eos = token_id(tokenizer, BOS), token_id(tokenizer, EOS)
    while True:
        document = judgements.judged(world, rng, _WITH_PASSAGE[recipe.leg])
        given, text = (tokenizer.encode(part, add_special_tokens=False).ids for part in (document.given, document.text))
        yield bos, NOT_LEARNED
        yield from ((token, NOT_LEARNED) for token in given)
        yield from ((token, token) for token in (*text, eos))


if __name__ == "__main__":
    sys.exit(main())

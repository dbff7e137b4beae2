"""Make the bundled model, its draft or an adapter over it: train it from a seed, save it, score it, write its card.

`python -m experiments.bundled.train [--size draft] [--out DIR] [--steps N | --minutes 8 | --resume] [--seed 0]`
`python -m experiments.bundled.train --adapter errands [--out DIR] [--steps N | --resume] [--seed 0]`

Without --steps and --minutes it is made as the committed one was, in its legs.

On a machine that does other work as well, set `OMP_WAIT_POLICY=passive`: threads that spin while they wait for one
another made a step 18 times slower on two cores of which one was taken.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaForCausalLM

from runtime_matrix.experiments.bundled.adapter_training import ADAPTERS_DIR, RECIPES, train_adapter
from runtime_matrix.experiments.bundled.card import TrainingRun, write_adapter_card, write_card, write_draft_card
from runtime_matrix.experiments.bundled.scoring import GUESSED_ITEMS, accepted_guesses, score, score_adapter
from runtime_matrix.experiments.bundled.texts.world import World, build_world
from runtime_matrix.experiments.bundled.tokens import bundled_tokenizer, save_tokenizer
from runtime_matrix.experiments.bundled.training import (
    LEGS,
    MAX_POSITIONS,
    SIZES,
    Progress,
    Recipe,
    Trainer,
    blended,
    read_model,
    recipe_of,
)
from runtime_matrix.experiments.config.errors import UserError

MODEL_DIR = Path(__file__).parent / "model"
DRAFT_DIR = Path(__file__).parent / "draft"
FOLDERS = {"model": MODEL_DIR, "draft": DRAFT_DIR}
THREADS = 2
CHECKPOINT_EVERY_STEPS = 100
PLAIN_EVERY_STEPS = 50
PACE_STEPS = 20  # to turn minutes into steps


def main() -> int:
    """Train the bundled model, its draft model or an adapter; return the exit code."""
    arguments = _parser().parse_args()
    try:
        if arguments.adapter is not None:
            make_adapter(arguments)
            return 0
        out = arguments.out or FOLDERS[arguments.size]
        legs = [replace(leg, seed=arguments.seed) for leg in LEGS[arguments.size]]
        if arguments.steps or arguments.minutes:
            legs = [replace(legs[0], steps=arguments.steps or legs[0].steps)]
        make_model(out, legs, arguments.minutes, resume=arguments.resume)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def make_model(out: Path, legs: Sequence[Recipe], minutes: float | None, *, resume: bool) -> None:
    """Train, save, score and describe the model in the folder `out`. `minutes`: of its only leg."""
    torch.set_num_threads(THREADS)
    # The gradient of the embedding is summed in any order otherwise, and a seed gives another model each time.
    torch.use_deterministic_algorithms(True)
    out.mkdir(parents=True, exist_ok=True)
    world = build_world()
    checkpoint = out / "checkpoint.pt"
    if resume:
        begun = recipe_of(checkpoint)
        legs = [begun] if begun.steps != legs[begun.leg].steps else [begun, *legs[begun.leg + 1 :]]
    tokenizer = bundled_tokenizer(world, legs[0].seed)
    if minutes is not None:
        legs = [replace(legs[0], steps=steps_within(world, tokenizer, legs[0], minutes))]
        print(f"{minutes:g} minutes are {legs[0].steps} steps here; --steps {legs[0].steps} gives the same model")
    trained_s = 0.0
    for number, recipe in enumerate(legs):
        before = read_model(out) if recipe.leg else None
        trainer = Trainer(world, tokenizer, recipe, model=before, compiled=shutil.which("g++") is not None)
        if resume and number == 0:
            trainer.resume(checkpoint)
        with reporter(trainer.recipe.steps, trainer.step) as report:
            trainer.train(checkpoint, CHECKPOINT_EVERY_STEPS, report)
        model = trainer.model if before is None else blended(read_model(out), trainer.model, recipe.blend)
        save(model, tokenizer, out)
        checkpoint.unlink(missing_ok=True)
        trained_s += trainer.trained_s
    describe(world, legs, out, trained_s / 60)


def make_adapter(arguments: argparse.Namespace) -> None:
    """Train an adapter over the committed model, score both with its benchmark, and write its card."""
    if arguments.size != "model" or arguments.minutes is not None:
        raise UserError("--adapter trains over the bundled model, for --steps: leave out --size and --minutes")
    torch.set_num_threads(THREADS)
    name, out = arguments.adapter, arguments.out or ADAPTERS_DIR / arguments.adapter
    recipe = replace(RECIPES[name], seed=arguments.seed, steps=arguments.steps or RECIPES[name].steps)
    if arguments.resume:
        recipe = recipe_of(out / "checkpoint.pt")
    with reporter(recipe.steps, 0) as report:
        trained_s = train_adapter(name, MODEL_DIR, out, recipe, resume=arguments.resume, report=report)
    with tempfile.TemporaryDirectory() as work:
        write_adapter_card(name, out, recipe, trained_s, score_adapter(name, out, Path(work)))
    print(f"wrote {out}; its README.md holds the scores")


def steps_within(world: World, tokenizer: Tokenizer, recipe: Recipe, minutes: float) -> int:
    """Measure the pace of a few steps, which are thrown away, and return how many fit into the time."""
    trial = Trainer(world, tokenizer, recipe)
    trial.train_step()  # the first step also makes the text and allocates
    start_s = time.perf_counter()
    for _ in range(PACE_STEPS - 1):
        trial.train_step()
    step_s = (time.perf_counter() - start_s) / (PACE_STEPS - 1)
    return max(1, int(minutes * 60 / step_s))


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write bf16 safetensors, the configurations and the tokenizer."""
    config = model.config
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        do_sample=False,
        max_new_tokens=128,
    )
    model.bfloat16().save_pretrained(out)
    save_tokenizer(tokenizer, out, MAX_POSITIONS)


def describe(world: World, legs: Sequence[Recipe], out: Path, minutes: float) -> None:
    """Score what was saved, as a user would load it, and write the card."""
    model = LlamaForCausalLM.from_pretrained(out)
    parameters = sum(weight.numel() for weight in model.parameters())
    run, config = TrainingRun(parameters, len(world.all_facts), minutes), model.config.to_dict()
    with tempfile.TemporaryDirectory() as work:
        if legs[0].size == "draft":
            write_draft_card(out, legs, run, config, accepted_guesses(out, Path(work)), GUESSED_ITEMS)
        else:
            write_card(out, legs, run, config, score(out, Path(work)))
    print(f"wrote {out}; its README.md holds the scores")


@contextmanager
def reporter(steps: int, first_step: int) -> Iterator[Callable[[Progress], None]]:
    """Show loss and time left: a bar on a terminal, a line now and then elsewhere."""
    if not sys.stdout.isatty():
        start_s = time.perf_counter()
        yield lambda progress: _print_line(progress, steps, first_step, start_s)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    with Bar(*columns) as bar:
        task = bar.add_task("training", total=steps, completed=first_step, loss=float("nan"))
        yield lambda progress: bar.update(task, completed=progress.step, loss=progress.loss)


def _print_line(progress: Progress, steps: int, first_step: int, start_s: float) -> None:
    if progress.step % PLAIN_EVERY_STEPS and progress.step != steps:
        return
    step_s = (time.perf_counter() - start_s) / (progress.step - first_step)
    left_s = step_s * (steps - progress.step)
    print(f"step {progress.step}/{steps}  loss {progress.loss:.3f}  {left_s:.0f} s left", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", choices=tuple(SIZES), default="model", help="draft: a smaller one that guesses for it"
    )
    parser.add_argument("--adapter", choices=tuple(RECIPES), help="train an adapter over the bundled model instead")
    parser.add_argument("--out", type=Path, help="folder to write into (default: that of the committed one)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="steps of a single leg (default: the legs of the committed one)")
    length.add_argument("--minutes", type=float, help="train for about this long; the steps then depend on the machine")
    length.add_argument("--resume", action="store_true", help="go on from the checkpoint, with its own steps and seed")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the training text (default: 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

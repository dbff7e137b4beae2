from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from experiments.bundled.corpus import SEPARATOR, is_held_out, training_documents
from experiments.bundled.make_data import DATA_DIR, PERPLEXITY_FILE, read_questions, write_data
from experiments.bundled.questions import LETTERS, prompt, shot
from experiments.bundled.scoring import PERPLEXITY_WINDOW, SHOTS, score
from experiments.bundled.tokens import BOS, EOS, bundled_tokenizer, shard_windows, token_id
from experiments.bundled.train import MODEL_DIR
from experiments.bundled.training import Recipe, Trainer, learning_rate, recipe_of
from experiments.bundled.wordings import WORDINGS
from experiments.bundled.world import RELATIONS, World, build_world
from experiments.errors import UserError

RECIPE = Recipe(steps=30, batch_size=2, window=128, warmup_steps=5)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


@pytest.fixture(scope="module")
def training_text(world: World) -> str:
    # The tokenizer saw shard 0, the end of a training run a late one; the wordings are the same in all.
    return SEPARATOR.join(text for shard in (0, 30) for text in islice(training_documents(world, 0, shard), 2000))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))


def questions(split: str) -> dict[str, list[list[str]]]:
    files = sorted((DATA_DIR / "multiple_choice" / split).glob(f"*_{split}.csv"))
    return {file.stem.removesuffix(f"_{split}"): read_questions(file) for file in files}


def held_out_passages() -> list[str]:
    return (DATA_DIR / PERPLEXITY_FILE).read_text(encoding="utf-8").strip().split(SEPARATOR)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_committed_data_is_what_the_script_writes(world: World, tmp_path: Path) -> None:
    write_data(world, tmp_path)
    assert files_of(tmp_path) == files_of(DATA_DIR)


def test_a_seed_gives_one_world_and_another_seed_another() -> None:
    assert build_world(3) == build_world(3)
    assert build_world(3).values != build_world(4).values


def test_training_text_depends_on_seed_and_shard_alone(world: World) -> None:
    def beginning(seed: int, shard: int) -> list[str]:
        return list(islice(training_documents(world, seed, shard), 20))

    assert beginning(0, 1) == beginning(0, 1)
    assert beginning(0, 1) != beginning(0, 2)
    assert beginning(0, 1) != beginning(1, 1)


def test_every_relation_has_wordings_of_its_own_for_the_benchmark() -> None:
    assert set(WORDINGS) == {(kind, relation) for kind, relations in RELATIONS.items() for relation in relations}
    for wording in WORDINGS.values():
        assert not set(wording.test_questions) & set(wording.train_questions)
        assert all("{e}" in text and "{v}" in text for text in wording.statements)


def test_questions_have_the_layout_of_hendrycks() -> None:
    dev, test = questions("dev"), questions("test")
    assert set(dev) == set(test)
    assert all(len(rows) == 5 for rows in dev.values())
    assert 200 <= sum(map(len, test.values())) <= 1000
    for row in [row for split in (dev, test) for rows in split.values() for row in rows]:
        assert len(row) == 6
        assert len(set(row[1:5])) == 4
        assert row[5] in LETTERS


def test_questions_have_the_right_answers(world: World) -> None:
    answers = {
        template.format(e=fact.entity.name): fact.value
        for fact in (*world.told_facts, *world.untold_facts)
        for template in WORDINGS[fact.entity.kind, fact.relation].test_questions
    }
    for row in [row for rows in questions("test").values() for row in rows]:
        assert row[1 + LETTERS.index(row[5])] == answers[row[0]]


def test_no_benchmark_question_occurs_in_the_training_text(world: World, training_text: str) -> None:
    asked_in_training = {
        template.format(e=fact.entity.name)
        for fact in world.told_facts
        for template in WORDINGS[fact.entity.kind, fact.relation].train_questions
    }
    for row in [row for split in ("dev", "test") for rows in questions(split).values() for row in rows]:
        assert row[0] not in asked_in_training
        assert row[0] not in training_text


def test_no_held_out_passage_occurs_in_the_training_text(training_text: str) -> None:
    passages = held_out_passages()
    assert len(set(passages)) == len(passages)
    for passage in passages:
        assert is_held_out(passage)
        assert passage not in training_text


def test_windows_start_with_bos_and_hold_whole_documents_in_order(world: World, tokenizer: Tokenizer) -> None:
    ids_NT = shard_windows(world, tokenizer, seed=0, shard=1, windows=4, length=256)
    bos, eos = token_id(tokenizer, BOS), token_id(tokenizer, EOS)
    assert ids_NT.shape == (4, 256)
    assert ids_NT[:, 0].tolist() == [bos] * 4
    first_document = next(training_documents(world, 0, 1))
    expected = [bos, *tokenizer.encode(first_document, add_special_tokens=False).ids, eos]
    assert ids_NT[:, 1:].flatten().tolist()[: len(expected)] == expected


def test_learning_rate_warms_up_and_falls() -> None:
    recipe = replace(RECIPE, steps=100, warmup_steps=10)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert max(rates) == rates[10] == recipe.peak_lr
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(recipe.peak_lr * recipe.final_lr_ratio)


def test_a_few_steps_lower_the_loss_and_a_checkpoint_continues_them(
    world: World, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    whole = Trainer(world, tokenizer, RECIPE)
    losses: list[float] = []
    checkpoint = tmp_path / "checkpoint.pt"
    whole.train(checkpoint, 20, lambda progress: losses.append(progress.loss))
    assert sum(losses[-5:]) / 5 < losses[0] - 1

    assert recipe_of(checkpoint) == RECIPE
    resumed = Trainer(world, tokenizer, RECIPE)
    resumed.resume(checkpoint)
    assert resumed.step == 20
    later: list[float] = []
    resumed.train(checkpoint, 20, lambda progress: later.append(progress.loss))
    assert later == pytest.approx(losses[20:], rel=1e-2)  # bf16 sums may round differently from run to run
    assert not list(tmp_path.glob("*.partial"))


def test_resuming_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        recipe_of(tmp_path / "checkpoint.pt")


def test_the_committed_tokenizer_is_the_one_the_script_trains(world: World, tokenizer: Tokenizer) -> None:
    assert bundled_tokenizer(world, seed=0).get_vocab() == tokenizer.get_vocab()


def test_the_committed_tokenizer_loads_both_ways_and_encodes_any_text(tokenizer: Tokenizer) -> None:
    loaded = AutoTokenizer.from_pretrained(MODEL_DIR)
    assert (loaded.bos_token, loaded.eos_token) == (BOS, EOS)
    for text in (prompt("Where does Anna live?"), "Zürich 北京 🦦\n\n\tdef f(x): return 1"):
        ids = tokenizer.encode(text).ids
        assert ids == loaded(text)["input_ids"]
        assert ids[0] == loaded.bos_token_id
        assert tokenizer.decode(ids) == text


def test_the_committed_data_fits_the_tokenizer(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode((DATA_DIR / PERPLEXITY_FILE).read_text(encoding="utf-8")).ids) >= 50_000
    dev, test = questions("dev"), questions("test")
    for subject, rows in test.items():
        examples = [shot(row[0], row[1 + LETTERS.index(row[5])]) for row in dev[subject][:SHOTS]]
        prompts = [SEPARATOR.join([*examples, shot(row[0], max(row[1:5], key=len))]) for row in rows]
        assert max(len(tokenizer.encode(text).ids) for text in prompts) <= PERPLEXITY_WINDOW


def test_the_committed_model_loads_and_its_shapes_are_multiples_of_128(tokenizer: Tokenizer) -> None:
    model = LlamaForCausalLM.from_pretrained(MODEL_DIR)
    assert model.dtype == torch.bfloat16
    assert 1e6 <= sum(weight.numel() for weight in model.parameters()) <= 2.5e6
    assert all(size % 128 == 0 for weight in model.parameters() for size in weight.shape)
    assert tokenizer.get_vocab_size() <= model.config.vocab_size
    assert GenerationConfig.from_pretrained(MODEL_DIR).eos_token_id == token_id(tokenizer, EOS)


def test_the_committed_model_answers_better_than_chance(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Score a part of the data, so that the check is fast: the whole is in the model card."""
    (tmp_path / PERPLEXITY_FILE).write_text(SEPARATOR.join(held_out_passages()[:20]), encoding="utf-8")
    for split in ("dev", "test"):
        folder = tmp_path / "multiple_choice" / split
        folder.mkdir(parents=True)
        source = DATA_DIR / "multiple_choice" / split / f"towns_{split}.csv"
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)[:30]
        (folder / source.name).write_text("".join(lines), encoding="utf-8")
    model = LlamaForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    scores = score(model, tokenizer, tmp_path)
    assert all(accuracies["towns"].ratio > 0.5 for accuracies in scores.accuracy.values())
    assert scores.perplexity.value < 4

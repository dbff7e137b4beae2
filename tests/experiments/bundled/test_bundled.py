import ast
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from runtime_matrix.experiments.bundled.corpus import SEPARATOR, STORIES_HELD_OUT_ONE_IN, training_documents
from runtime_matrix.experiments.bundled.make_data import DATA_DIR, write_data
from runtime_matrix.experiments.bundled.make_detection import FILE
from runtime_matrix.experiments.bundled.scoring import BITS, write_rounded
from runtime_matrix.experiments.bundled.texts import articles, functions, passages
from runtime_matrix.experiments.bundled.texts import questions as mcq
from runtime_matrix.experiments.bundled.texts.document import is_held_out
from runtime_matrix.experiments.bundled.texts.wordings import WORDINGS
from runtime_matrix.experiments.bundled.texts.world import RELATIONS, World, build_world
from runtime_matrix.experiments.bundled.tokens import BOS, EOS, NOT_LEARNED, bundled_tokenizer, token_id, windows_of
from runtime_matrix.experiments.bundled.train import MODEL_DIR
from runtime_matrix.experiments.bundled.training import (
    LEGS,
    SIZES,
    Recipe,
    Trainer,
    blended,
    first_shard_of,
    learning_rate,
    new_model,
    recipe_of,
)
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.tasks import extractive_qa, multiple_choice, perplexity, summarization
from runtime_matrix.experiments.tasks import questions as question_files
from runtime_matrix.runtimes.weights.rounded import round_to_nearest

RECIPE = Recipe(steps=30, batch_size=2, window=128, warmup_steps=5)
SHARDS = (0, 30, 70)  # the warm-up, the middle and the end of the training


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


@pytest.fixture(scope="module")
def training_text(world: World) -> str:
    documents = [one for shard in SHARDS for one in islice(training_documents(world, 0, shard), 3000)]
    return SEPARATOR.join(one.given + one.text for one in documents)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))


@pytest.fixture(scope="module")
def question_set() -> question_files.QuestionSet:
    return question_files.load(DATA_DIR / "multiple_choice", None, shots=5)


def held_out_stories() -> list[str]:
    return perplexity.read_text(DATA_DIR / "perplexity.txt").strip().split(SEPARATOR)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_committed_data_is_what_the_script_writes(world: World, tmp_path: Path) -> None:
    write_data(world, tmp_path)
    made_elsewhere = {FILE.name}
    assert files_of(tmp_path) == {name: text for name, text in files_of(DATA_DIR).items() if name not in made_elsewhere}


def test_a_seed_gives_one_world_and_another_seed_another() -> None:
    assert build_world(3) == build_world(3)
    assert build_world(3).values != build_world(4).values


def test_training_text_depends_on_seed_and_shard_alone(world: World) -> None:
    def beginning(seed: int, shard: int) -> list[object]:
        return list(islice(training_documents(world, seed, shard), 20))

    assert beginning(0, 1) == beginning(0, 1)
    assert beginning(0, 1) != beginning(0, 2)
    assert beginning(0, 1) != beginning(1, 1)


def test_every_relation_has_wordings_of_its_own_for_the_benchmark() -> None:
    assert set(WORDINGS) == {(kind, relation) for kind, relations in RELATIONS.items() for relation in relations}
    for wording in WORDINGS.values():
        assert not set(wording.test_questions) & set(wording.train_questions)
        assert all("{e}" in text and "{v}" in text for text in wording.statements)


def test_the_data_is_as_large_as_promised_and_loads_with_the_public_sets_code(
    question_set: question_files.QuestionSet,
) -> None:
    assert len(question_set.questions) >= 1000
    assert len(question_set.shots_by_subject) == 8
    assert len(loading.load(DATA_DIR / "code.jsonl")) >= 150
    assert len(loading.load(DATA_DIR / "solved.jsonl")) >= 400
    assert len(extractive_qa.load(DATA_DIR / "extractive_qa.json")) >= 500
    assert len(summarization.load(DATA_DIR / "summarization.jsonl")) >= 200


def test_questions_have_the_right_answers(world: World, question_set: question_files.QuestionSet) -> None:
    facts = (*world.told_facts, *world.untold_facts(2), *world.untold_facts(3))
    answers = {
        template.format(e=fact.entity.name): fact.value
        for fact in facts
        for template in WORDINGS[fact.entity.kind, fact.relation].test_questions
    }
    for question in question_set.questions:
        assert len(set(question.choices)) == 4
        assert question.answer is not None
        assert question.choices[question.answer] == answers[question.text]


def test_answers_are_spans_of_their_passages() -> None:
    for article in json.loads((DATA_DIR / "extractive_qa.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                for answer in question["answers"]:
                    assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])


def test_no_multiple_choice_question_occurs_in_the_training_text(
    world: World, training_text: str, question_set: question_files.QuestionSet
) -> None:
    asked_in_training = {
        template.format(e=fact.entity.name)
        for fact in world.told_facts
        for template in WORDINGS[fact.entity.kind, fact.relation].train_questions
    }
    shots = [shot for group in question_set.shots_by_subject.values() for shot in group]
    for question in [*question_set.questions, *shots]:
        assert question.text not in asked_in_training
        assert question.text not in training_text


def test_no_story_passage_article_or_problem_occurs_in_the_training_text(training_text: str) -> None:
    """By construction, for training of any length: by digest. And looked for, in a part of the text."""
    stories = held_out_stories()
    assert len(set(stories)) == len(stories)
    assert all(is_held_out(text, STORIES_HELD_OUT_ONE_IN) for text in stories)
    questions = extractive_qa.load(DATA_DIR / "extractive_qa.json")
    contexts = {question.context for question in questions}
    assert all(is_held_out(text, passages.PASSAGES_HELD_OUT_ONE_IN) for text in contexts)
    assert all(is_held_out(question.text, passages.QUESTIONS_HELD_OUT_ONE_IN) for question in questions)
    news = [article.text for article in summarization.load(DATA_DIR / "summarization.jsonl")]
    assert all(is_held_out(text, articles.HELD_OUT_ONE_IN) for text in news)
    docstrings = [problem.prompt.split('"""')[1] for problem in loading.load(DATA_DIR / "code.jsonl")]
    assert len(set(docstrings)) == len(docstrings)
    for text in (*stories, *contexts, *(question.text for question in questions), *news, *docstrings):
        assert text not in training_text


def test_training_never_draws_what_is_held_out(world: World) -> None:
    drawn = list(islice((document for document in training_documents(world, 5, 40)), 4000))
    chains = {problem.chain for problem in functions.benchmark(world.seed)}
    assert all(is_held_out(chain, functions.HELD_OUT_ONE_IN) for chain in chains)
    contexts = [one.given.removeprefix("Passage: ").strip() for one in drawn if one.given.startswith("Passage: ")]
    assert len(contexts) > 500
    assert not any(is_held_out(context, passages.PASSAGES_HELD_OUT_ONE_IN) for context in contexts)


def test_reference_solutions_are_python_and_checks_tell_answers_apart() -> None:
    for problem in functions.benchmark(0)[:40]:
        ast.parse(problem.prompt + problem.solution + problem.test)
        assert len({repr(result) for _, result in problem.checks}) > 2


def test_windows_start_with_bos_and_a_prompt_is_not_learned(world: World, tokenizer: Tokenizer) -> None:
    ids_NT, labels_NT = windows_of(training_documents(world, 0, 1), tokenizer, windows=4, length=256)
    bos, eos = token_id(tokenizer, BOS), token_id(tokenizer, EOS)
    assert ids_NT.shape == labels_NT.shape == (4, 256)
    assert ids_NT[:, 0].tolist() == [bos] * 4
    first = next(training_documents(world, 0, 1))
    given, text = (tokenizer.encode(part, add_special_tokens=False).ids for part in (first.given, first.text))
    expected = [bos, *given, *text, eos]
    assert ids_NT[:, 1:].flatten().tolist()[: len(expected)] == expected
    learned = [NOT_LEARNED] * (1 + len(given)) + [*text, eos]
    assert labels_NT[:, 1:].flatten().tolist()[: len(expected)] == learned


def test_learning_rate_warms_up_and_falls() -> None:
    recipe = replace(RECIPE, steps=100, warmup_steps=10)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert max(rates) == rates[10] == recipe.peak_lr
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(recipe.peak_lr * recipe.final_lr_ratio)


@pytest.mark.slow
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


def test_weights_between_two_legs(tokenizer: Tokenizer) -> None:
    for share in (0.0, 0.6, 1.0):
        before, after = (new_model(tokenizer, seed, SIZES["draft"]) for seed in (0, 1))
        (first, *_), (second, *_) = ([w.detach().bfloat16().float() for w in m.parameters()] for m in (before, after))
        (made, *_) = blended(before, after, share).parameters()
        assert torch.allclose(made, (1 - share) * first + share * second)


def test_no_text_of_the_first_leg_comes_again_in_the_second() -> None:
    first, second = LEGS["model"]
    assert first_shard_of(first) + first.steps < first_shard_of(second)


def test_resuming_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        recipe_of(tmp_path / "checkpoint.pt")


def test_fewer_bits_round_further(tmp_path: Path) -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    errors = [float((round_to_nearest(weight, bits) - weight).abs().mean()) for bits in BITS]
    assert errors == sorted(errors)
    write_rounded(MODEL_DIR, tmp_path / "rounded", 3)
    head = LlamaForCausalLM.from_pretrained(tmp_path / "rounded", dtype=torch.float32).lm_head.weight
    assert max(len(row.unique()) for row in head) <= 7


def test_the_committed_tokenizer_is_the_one_the_script_trains(world: World, tokenizer: Tokenizer) -> None:
    assert bundled_tokenizer(world, seed=0).get_vocab() == tokenizer.get_vocab()


def test_the_committed_tokenizer_loads_both_ways_and_encodes_any_text(tokenizer: Tokenizer) -> None:
    loaded = AutoTokenizer.from_pretrained(MODEL_DIR)
    assert (loaded.bos_token, loaded.eos_token) == (BOS, EOS)
    for text in (mcq.prompt("Where does Anna live?"), "Zürich 北京 🦦\n\n\tdef f(x): return 1"):
        ids = tokenizer.encode(text).ids
        assert ids == loaded(text)["input_ids"]
        assert ids[0] == loaded.bos_token_id
        assert tokenizer.decode(ids) == text


def test_prompts_fit_the_length_that_the_model_was_trained_at(
    tokenizer: Tokenizer, question_set: question_files.QuestionSet
) -> None:
    assert len(tokenizer.encode((DATA_DIR / "perplexity.txt").read_text(encoding="utf-8")).ids) >= 50_000
    whole = []
    for question in question_set.questions:
        prompt = multiple_choice.prompt(question, question_set.shots_by_subject[question.subject][:2], "texts")
        whole.append(prompt.context + max(prompt.endings, key=len))
    whole += [problem.prompt + str(problem.reference) for problem in loading.load(DATA_DIR / "code.jsonl")]
    for asked in extractive_qa.load(DATA_DIR / "extractive_qa.json"):
        whole.append(f"{extractive_qa.prompt(asked)} {asked.answers[0]}")
    for article in summarization.load(DATA_DIR / "summarization.jsonl"):
        whole.append(f"{summarization.prompt(article)} {article.references[0]}")
    assert max(len(one.ids) for one in tokenizer.encode_batch(whole)) <= Recipe(steps=1).window


def test_training_asks_as_the_benchmarks_do(training_text: str, question_set: question_files.QuestionSet) -> None:
    """The prompt of a benchmark, its own words taken out, is what the training text is made of."""
    asked = extractive_qa.load(DATA_DIR / "extractive_qa.json")[0]
    assert extractive_qa.prompt(asked) == passages.prompt(asked.context, asked.text)
    article = summarization.load(DATA_DIR / "summarization.jsonl")[0]
    assert summarization.prompt(article) == articles.prompt(article.text)
    question = question_set.questions[0]
    assert multiple_choice.prompt(question, [], "texts").context == mcq.prompt(question.text)


def test_the_committed_model_loads_and_its_shapes_are_multiples_of_128(tokenizer: Tokenizer) -> None:
    model = LlamaForCausalLM.from_pretrained(MODEL_DIR)
    assert model.dtype == torch.bfloat16
    assert 2e6 <= sum(weight.numel() for weight in model.parameters()) <= 8e6
    assert (MODEL_DIR / "model.safetensors").stat().st_size <= 16 * 2**20
    assert all(size % 128 == 0 for weight in model.parameters() for size in weight.shape)
    assert tokenizer.get_vocab_size() <= model.config.vocab_size
    assert GenerationConfig.from_pretrained(MODEL_DIR).eos_token_id == token_id(tokenizer, EOS)

"""The work of comparisons with other tools: texts and models from bundled data, the same for all tools.

Questions are as long as MMLU's (a median of 74 tokens, after 5 examples of about 140 each), in words of the bundled
stories. Models are Llamas of 13M parameters (at a vocabulary of 4,000) with seeded random weights.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.tasks import code, extractive_qa, summarization

_BUNDLED = Path(__file__).parents[2] / "bundled"
_DATA, MODEL_DIR = _BUNDLED / "data", _BUNDLED / "model"
_SHOTS, _PREFIX_TOKENS = 5, 700
_MEDIAN_TOKENS, _SPREAD = 74, 0.85  # of a logarithmic normal distribution: a mean of 106, as MMLU's
_SHORTEST, _LONGEST = 25, 500
_TOKENS_PER_WORD = 1.33  # of the bundled tokenizer on these words
_LETTERS = "ABCD"


@dataclass(frozen=True)
class Choice:
    """A question as text: the prefix of its subject, the question itself, and its choices."""

    prefix: str
    stem: str
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Writing:
    """A text to continue greedily."""

    prompt: str
    stop: tuple[str, ...]
    max_new_tokens: int


def choices(subjects: int, questions: int, style: str, seed: int = 0) -> Iterator[Choice]:
    """Yield questions with four choices each; `letters` are single tokens, `texts` are several."""
    drawn = random.Random(seed)
    words = (_DATA / "perplexity.txt").read_text(encoding="utf-8").split()
    for subject in range(subjects):
        head = f"The following are multiple choice questions (with answers) about subject {subject}."
        examples = [_question(drawn, words, _PREFIX_TOKENS / _SHOTS, style) for _ in range(_SHOTS)]
        prefix = "\n\n".join([head, *(f"{text}{endings[drawn.randrange(4)]}" for text, endings in examples)])
        for _ in range(questions):
            tokens = math.exp(drawn.gauss(math.log(_MEDIAN_TOKENS), _SPREAD))
            text, endings = _question(drawn, words, min(_LONGEST, max(_SHORTEST, tokens)), style)
            yield Choice(prefix, f"\n\n{text}", endings)


def _question(drawn: random.Random, words: Sequence[str], tokens: float, style: str) -> tuple[str, tuple[str, ...]]:
    count = max(12, round(tokens / _TOKENS_PER_WORD) - 8)
    texts = [" ".join(_some(drawn, words, max(2, count // 12))) for _ in _LETTERS]
    if style == "texts":
        return f"{' '.join(_some(drawn, words, count))}?\nAnswer:", tuple(f" {text}" for text in texts)
    question = " ".join(_some(drawn, words, max(2, count - 4 * (count // 12))))
    choice_lines = "\n".join(f"{letter}. {text}" for letter, text in zip(_LETTERS, texts, strict=True))
    return f"{question}?\n{choice_lines}\nAnswer:", tuple(f" {letter}" for letter in _LETTERS)


def _some(drawn: random.Random, words: Sequence[str], count: int) -> Sequence[str]:
    start = drawn.randrange(len(words) - count)
    return words[start : start + count]


def writings() -> list[Writing]:
    """Return prompts of code, questions and articles, for texts of varied length."""
    texts = [Writing(item.prompt, code.STOP, 128) for item in loading.load(_DATA / "code.jsonl")]
    questions = extractive_qa.load(_DATA / "extractive_qa.json")
    texts += [Writing(extractive_qa.prompt(item), extractive_qa.STOP, 24) for item in questions[::4]]
    articles = summarization.load(_DATA / "summarization.jsonl")
    return texts + [Writing(summarization.prompt(item), summarization.STOP, 48) for item in articles[::2]]


def write_model(folder: Path, vocabulary: int) -> None:
    """Write a random Llama of 10M parameters plus embeddings, with the bundled tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        intermediate_size=960,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.1,  # logits that differ: with the usual 0.02 every choice is a near tie
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL_DIR / name, folder / name)

"""Score the bundled model with plain transformers in fp32: the numbers of the model card, not a benchmark of runtimes.

Legend: B rows, T tokens, V vocabulary.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from experiments.bundled.make_data import PERPLEXITY_FILE, read_questions
from experiments.bundled.questions import LETTERS, prompt, shot
from experiments.bundled.tokens import BOS, token_id

PERPLEXITY_WINDOW = 256
SHOTS = 2


@dataclass(frozen=True)
class Accuracy:
    right: int
    questions: int

    @property
    def ratio(self) -> float:
        return self.right / self.questions

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.ratio * (1 - self.ratio) / self.questions)


@dataclass(frozen=True)
class Perplexity:
    value: float
    standard_error: float  # over windows, carried over from the mean loss by the delta method
    bits_per_byte: float
    tokens: int


@dataclass(frozen=True)
class Scores:
    accuracy: dict[int, dict[str, Accuracy]]  # number of examples in the prompt -> subject -> accuracy
    perplexity: Perplexity


@torch.inference_mode()
def score(model: LlamaForCausalLM, tokenizer: Tokenizer, data: Path) -> Scores:
    """Score on the benchmark data in the folder `data`."""
    model.eval()
    accuracy = {shots: _accuracies(model, tokenizer, data / "multiple_choice", shots) for shots in (0, SHOTS)}
    return Scores(accuracy, _perplexity(model, tokenizer, (data / PERPLEXITY_FILE).read_text(encoding="utf-8")))


def pooled(accuracies: dict[str, Accuracy]) -> Accuracy:
    """Count all subjects as one."""
    return Accuracy(sum(a.right for a in accuracies.values()), sum(a.questions for a in accuracies.values()))


def _accuracies(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path, shots: int) -> dict[str, Accuracy]:
    accuracies = {}
    for test in sorted((folder / "test").glob("*_test.csv")):
        subject = test.stem.removesuffix("_test")
        dev = read_questions(folder / "dev" / f"{subject}_dev.csv")[:shots]
        head = "".join(shot(row[0], row[1 + LETTERS.index(row[5])]) + "\n\n" for row in dev)
        rows = read_questions(test)
        right = sum(_choose(model, tokenizer, head + prompt(row[0]), row[1:5]) == LETTERS.index(row[5]) for row in rows)
        accuracies[subject] = Accuracy(right, len(rows))
    return accuracies


def _choose(model: LlamaForCausalLM, tokenizer: Tokenizer, context: str, choices: list[str]) -> int:
    """Return the choice with the highest log-likelihood per byte."""
    start = len(tokenizer.encode(context).ids)
    encoded = [tokenizer.encode(f"{context} {choice}").ids for choice in choices]
    longest = max(map(len, encoded))
    # Right padding needs no mask: a causal model never looks at it.
    ids_BT = torch.tensor([ids + [0] * (longest - len(ids)) for ids in encoded])
    logp_BTV = model(input_ids=ids_BT, use_cache=False).logits.float().log_softmax(-1)
    per_byte = [
        sum(float(logp_BTV[row, at - 1, ids[at]]) for at in range(start, len(ids))) / len(f" {choice}".encode())
        for row, (ids, choice) in enumerate(zip(encoded, choices, strict=True))
    ]
    return per_byte.index(max(per_byte))


def _perplexity(model: LlamaForCausalLM, tokenizer: Tokenizer, text: str) -> Perplexity:
    """Predict every token of the text once, in windows that do not overlap, each with BOS in front."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    bos, fresh = token_id(tokenizer, BOS), PERPLEXITY_WINDOW - 1
    losses, sizes = [], []
    for start in range(0, len(ids), fresh):
        ids_BT = torch.tensor([[bos, *ids[start : start + fresh]]])
        losses.append(model(input_ids=ids_BT, labels=ids_BT, use_cache=False).loss.item())
        sizes.append(ids_BT.shape[1] - 1)
    count = sum(sizes)
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / count
    variance = sum((size * (loss - mean)) ** 2 for loss, size in zip(losses, sizes, strict=True)) / count**2
    value = math.exp(mean)
    bits_per_byte = mean * count / math.log(2) / len(text.encode())
    return Perplexity(value, value * math.sqrt(variance), bits_per_byte, count)

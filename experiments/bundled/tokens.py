"""From text to token ids: the byte-level BPE tokenizer, and the windows that a training step sees.

Legend: N windows, T tokens per window.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from runtime_matrix.experiments.bundled.corpus import WARM_UP_SHARDS, training_documents
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import World

BOS, EOS = "<s>", "</s>"
VOCABULARY_SIZE = 2048
TOKENIZER_DOCUMENTS = 10_000  # 4 MB of text, in which every word of the world occurs
NOT_LEARNED = -100  # the label that a loss leaves out


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer that puts BOS before a text when asked for special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any text can be encoded, not only that of the world
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, token_id(tokenizer, BOS))],
    )
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that the tokenizer must have."""
    number: int | None = tokenizer.token_to_id(token)
    assert number is not None, f"the tokenizer has no {token!r}"
    return number


def bundled_tokenizer(world: World, seed: int) -> Tokenizer:
    """Train the tokenizer on the beginning of the training text."""
    documents = islice(training_documents(world, seed, WARM_UP_SHARDS), TOKENIZER_DOCUMENTS)
    return train_tokenizer(document.given + document.text for document in documents)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write `tokenizer.json` and the configuration with which transformers' AutoTokenizer reads it."""
    # EOS pads, as is usual for Llama; whoever pads must pass an attention mask.
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def windows_of(
    documents: Iterator[Document], tokenizer: Tokenizer, windows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first windows of a text as ids_NT, all starting with BOS, and as labels_NT.

    Documents follow each other, each between BOS and EOS, and are cut where a window ends: a window may begin within
    a document, as the windows of a perplexity measurement do. A label is the id where it is learned, else NOT_LEARNED.
    """
    fresh = length - 1  # tokens of text a window, beside its BOS
    stream = list(islice(_token_stream(documents, tokenizer), windows * fresh))
    ids_NT = torch.full((windows, length), token_id(tokenizer, BOS))
    labels_NT = torch.full((windows, length), NOT_LEARNED)
    ids_NT[:, 1:] = torch.tensor([token for token, _ in stream]).view(windows, fresh)
    labels_NT[:, 1:] = torch.tensor([label for _, label in stream]).view(windows, fresh)
    return ids_NT, labels_NT


def _token_stream(documents: Iterator[Document], tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """Yield tokens and labels. What is given and what follows are encoded apart, as a prompt and its answer are."""
    bos, eos = token_id(tokenizer, BOS), token_id(tokenizer, EOS)
    while True:
        batch = list(islice(documents, 256))
        given = tokenizer.encode_batch_fast([document.given for document in batch], add_special_tokens=False)
        learned = tokenizer.encode_batch_fast([document.text for document in batch], add_special_tokens=False)
        for before, after in zip(given, learned, strict=True):
            yield bos, NOT_LEARNED
            yield from ((token, NOT_LEARNED) for token in before.ids)
            yield from ((token, token) for token in (*after.ids, eos))

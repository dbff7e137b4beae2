"""Requests are tokenised as lm-eval's own code does, and prefixes are found that many of them share."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.harness.encoding import HarnessTokenizer
from runtime_matrix.experiments.harness.shared_prefixes import shared_prefixes
from tests.experiments.harness.test_language_model import BUNDLED

WORDS = ("the", "moor pony", "a", "Answer:", "\n\n", ".", " ", "seven", "Wörter", "né", "(", ")", "B", "\t", "1984")


@pytest.fixture(scope="module")
def tokenizer() -> HarnessTokenizer:
    return HarnessTokenizer(BUNDLED)


def test_pairs_are_encoded_as_lm_eval_encodes_each(tokenizer: HarnessTokenizer) -> None:
    from runtime_matrix.experiments.harness.language_model import HarnessLM, HarnessOptions

    answering = None  # nothing is answered
    model = HarnessLM(answering, tokenizer, 1024, HarnessOptions(), 0)  # type: ignore[arg-type]
    drawn, pairs = random.Random(0), []
    for _ in range(400):
        context = "".join(drawn.choice(("", " ")) + drawn.choice(WORDS) for _ in range(drawn.randrange(1, 40)))
        ending = drawn.choice(("", " ")) + drawn.choice(WORDS) + drawn.choice(WORDS)
        if context.strip():
            pairs.append((context, ending))
    expected = [model._encode_pair(*pair) for pair in pairs]  # lm-eval's own code
    assert tokenizer.encode_pairs(pairs) == expected


def test_an_empty_context_is_the_prefix_token(tokenizer: HarnessTokenizer) -> None:
    (pair,) = tokenizer.encode_pairs([("", "the pony")])
    assert pair == ([tokenizer.inner.bos_token_id], tokenizer.encode_all(["the pony"], False)[0])


def test_the_prefixes_of_few_shot_examples_are_found() -> None:
    drawn = random.Random(1)
    heads = [tuple(drawn.randrange(50) for _ in range(length)) for length in (700, 400)]
    rows = [(*head, *(drawn.randrange(50, 99) for _ in range(30))) for head in heads for _ in range(20)]
    drawn.shuffle(rows)
    lengths = shared_prefixes(rows)
    assert {(row[0] == heads[0][0], length) for row, length in zip(rows, lengths, strict=True)} == {
        (True, 700),
        (False, 400),
    }


def test_no_other_choice_of_prefixes_saves_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with trying all ways to cut the sorted sequences into groups."""
    monkeypatch.setattr("runtime_matrix.experiments.harness.shared_prefixes._OVERHEAD", 2)
    drawn = random.Random(2)
    for _ in range(300):
        rows = sorted({tuple(drawn.randrange(2) for _ in range(drawn.randrange(1, 9))) for _ in range(6)})
        lengths = shared_prefixes(rows)
        assert all(0 <= length < len(row) for row, length in zip(rows, lengths, strict=True))
        assert _saved(_grouped(rows, lengths)) == max(_saved(groups) for groups in _all_groups(rows))


Group = tuple[int, int]  # sequences, and their common tokens


def _grouped(rows: list[tuple[int, ...]], lengths: list[int]) -> list[Group]:
    prefixes = [row[:length] for row, length in zip(rows, lengths, strict=True) if length]
    return [(prefixes.count(prefix), len(prefix)) for prefix in set(prefixes)]


def _all_groups(rows: list[tuple[int, ...]]) -> list[list[Group]]:
    found = []
    for count in range(len(rows)):
        for cuts in combinations(range(1, len(rows)), count):
            bounds = [0, *cuts, len(rows)]
            parts = [rows[start:end] for start, end in pairwise(bounds)]
            found.append([(len(part), _common(part)) for part in parts])
    return found


def _common(rows: list[tuple[int, ...]]) -> int:
    most = min(map(len, rows)) - 1
    return next((at for at in range(most) if len({row[at] for row in rows}) > 1), most)


def _saved(groups: list[Group]) -> int:
    return sum(max(0, (count - 1) * length - 2) for count, length in groups)


def test_options_of_texts_that_the_core_lacks_are_one_line(tokenizer: HarnessTokenizer) -> None:
    from runtime_matrix.experiments.harness.text_options import text_options

    options = text_options({"until": ["</s>", "\n"], "top_k": 5, "temperature": 0.0}, 32, tokenizer)
    assert (options.max_new_tokens, options.stop, options.temperature) == (32, ("</s>", "\n"), 0.0)
    assert options.stop_ids == (tokenizer.inner.eos_token_id,)
    sampled = text_options({"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_gen_toks": 8}, 32, tokenizer)
    assert (sampled.temperature, sampled.top_p, sampled.max_new_tokens) == (0.7, 0.9, 8)
    for unknown in ({"num_beams": 4}, {"do_sample": True, "temperature": 1.0, "top_k": 5}):
        with pytest.raises(UserError, match="is not supported"):
            text_options(unknown, 32, tokenizer)

from __future__ import annotations

from runtime_matrix.experiments.tasks.overlap import Seen, hashes_of, paragraphs, seen_of, share

LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."
TEXT = f"Before. {LONG} Behind.\nWhich river flows through Hartwell? The Umber."


def test_runs_of_13_words_match_regardless_of_case_and_punctuation() -> None:
    seen = seen_of([TEXT])
    assert seen.holds(("zero, " + LONG.upper().replace(".", "!") + " more",))
    assert not seen.holds((LONG.replace("seven", "seven and"),))
    assert seen.holds(("something else", LONG))


def test_a_short_item_must_be_a_whole_sentence() -> None:
    seen = seen_of([TEXT])
    assert seen.holds(("which river flows through Hartwell",))
    assert not seen.holds(("river flows through Hartwell",))
    assert not seen.holds(("The Umber",))  # too short to mean anything
    assert not seen.holds((LONG.rpartition(" twelve")[0] + " and so on for long enough", "The Umber."))


def test_the_share_counts_items() -> None:
    assert share([(LONG,), ("What is the name of the town?",)], seen_of([TEXT])) == 0.5
    assert share([], seen_of([TEXT])) is None
    assert paragraphs("a b\n\n\nc\nd\n \ne") == [("a b",), ("c\nd",), ("e",)]


def test_only_the_hashes_of_the_items_are_kept_of_a_long_text() -> None:
    items = [(LONG,), ("Which river flows through Hartwell?",), ("What is the name of the town?",)]
    seen = Seen()
    seen.add(TEXT + " " + " ".join(map(str, range(1000))), among=hashes_of(items))
    assert len(seen.runs) == 2
    assert len(seen.sentences) == 1
    assert share(items, seen) == 2 / 3

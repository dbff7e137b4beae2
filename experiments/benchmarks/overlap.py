"""The test items of a cell's benchmarks against the calibration text and, where it is known, the training text."""

from __future__ import annotations

from runtime_matrix.experiments.bundled import training_overlap
from runtime_matrix.experiments.cells.data import data_path
from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.config import BenchmarksConfig
from runtime_matrix.experiments.records.schema import Overlap, OverlapShare
from runtime_matrix.experiments.tasks import code, extractive_qa, multiple_choice, overlap, perplexity, summarization
from runtime_matrix.experiments.tasks.overlap import Item

SHOTS = "few_shot_examples"


def overlap_of(cell: Cell) -> Overlap:
    """Return for each benchmark of text how many items it has, and which share of them each text holds.

    The share of the training text is None for a model whose training text nobody has here. It covers all items of a
    benchmark's bundled data, whatever its limit.
    """
    asked = items_of(cell.config.benchmark)
    calibration = data_path("calibration", cell.config.calibration.data)
    seen = overlap.seen_of([calibration.read_text(encoding="utf-8", errors="replace")] if asked else [])
    known = training_overlap.shares(cell.facts.digest)
    shares = {
        name: OverlapShare(
            items=len(items),
            calibration=overlap.share(items, seen),
            training=known.get(name) if _data(cell.config.benchmark, name) == "bundled" else None,
        )
        for name, items in asked.items()
    }
    return Overlap(benchmarks=shares, words=overlap.WORDS, calibration_data=cell.config.calibration.data)


def items_of(chosen: BenchmarksConfig) -> dict[str, list[Item]]:
    """Return the items of each benchmark of text that is chosen; few-shot examples stand apart."""
    found: dict[str, list[Item]] = {}
    if chosen.perplexity is not None:
        path = data_path("perplexity", chosen.perplexity.data)
        found["perplexity"] = overlap.paragraphs(perplexity.read_text(path, chosen.perplexity.max_bytes))
    if chosen.multiple_choice is not None:
        asked = chosen.multiple_choice
        questions = multiple_choice.load(
            data_path("multiple_choice", asked.data), asked.limit, asked.shots, asked.fields
        )
        found["multiple_choice"] = [(question.text,) for question in questions.questions]
        shots = [shot for shots in questions.shots_by_subject.values() for shot in shots[: asked.shots]]
        if shots:
            found[SHOTS] = [(shot.text,) for shot in shots]
    if chosen.code is not None:
        problems = code.load(data_path("code", chosen.code.data), chosen.code.limit, chosen.code.fields)
        found["code"] = [(problem.prompt,) for problem in problems]
    if chosen.extractive_qa is not None:
        qa = extractive_qa.load(data_path("extractive_qa", chosen.extractive_qa.data), chosen.extractive_qa.limit)
        found["extractive_qa"] = [(question.context, question.text) for question in qa]
    if chosen.summarization is not None:
        wanted = chosen.summarization
        articles = summarization.load(data_path("summarization", wanted.data), wanted.limit, wanted.fields)
        found["summarization"] = [(article.text,) for article in articles]
    return found


def _data(chosen: BenchmarksConfig, name: str) -> str:
    data: str = getattr(chosen, "multiple_choice" if name == SHOTS else name).data
    return data

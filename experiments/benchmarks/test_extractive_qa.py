"""Extractive question answering: greedy answers, exact match and F1."""

import json
from collections.abc import Sequence

from runtime_matrix.experiments.benchmarks.generating import Asked, Decoding, answers
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.cells.data import data_path
from runtime_matrix.experiments.measurement.statistics import standard_error
from runtime_matrix.experiments.tasks import extractive_qa
from runtime_matrix.experiments.tasks.language import chosen


def test_extractive_qa(bench: Bench, entry: OpenEntry) -> None:
    asked = bench.cell.config.benchmark.extractive_qa
    assert asked is not None
    questions = extractive_qa.load(data_path("extractive_qa", asked.data), asked.limit)
    prompts = [Asked(question.id, extractive_qa.prompt(question)) for question in questions]
    found = answers(bench, prompts, Decoding(asked.max_new_tokens, extractive_qa.STOP))
    used = chosen(asked.language, (answer for question in questions for answer in question.answers))
    path, exact, f1s = bench.items_path("extractive_qa"), [], []
    passages: dict[str, int] = {}
    clusters = [passages.setdefault(question.context, len(passages)) for question in questions]
    with open(path, "w", encoding="utf-8") as file:
        for question, cluster, prompt, (generated,) in zip(questions, clusters, prompts, found.texts, strict=True):
            answer = generated.text.strip()
            exact.append(extractive_qa.exact_match(answer, question.answers, used))
            f1s.append(extractive_qa.f1(answer, question.answers, used))
            item = extractive_qa.Item(
                id=question.id,
                cluster=cluster,
                prompt=prompt.prompt,
                text=answer,
                ids=generated.ids,
                finished_by=generated.finished_by,
                answers=question.answers,
                is_right=exact[-1],
                f1=f1s[-1],
            )
            file.write(json.dumps(vars(item)) + "\n")
    result = extractive_qa.summarise(exact, f1s)
    entry.items_file = path.name
    entry.parameters = {"max_new_tokens": asked.max_new_tokens, "language": used}
    entry.figures = {
        "exact_match": result.exact_match,
        "exact_match_standard_error": _error(exact, clusters),
        "f1": result.f1,
        "f1_standard_error": _error(f1s, clusters),
        "items": result.items,
        "new_tokens": sum(len(one.ids) for (one,) in found.texts),
        **found.figures,
    }


def _error(scores: Sequence[float], clusters: Sequence[int]) -> float | None:
    error = standard_error(scores, clusters)
    return None if error is None else 100 * error

"""Summarization: greedy summaries, ROUGE-1, -2 and -L."""

import json
from collections.abc import Sequence

from runtime_matrix.experiments.benchmarks.generating import Asked, Decoding, answers
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.cells.data import data_path
from runtime_matrix.experiments.measurement.statistics import standard_error
from runtime_matrix.experiments.tasks import summarization
from runtime_matrix.experiments.tasks.language import chosen


def test_summarization(bench: Bench, entry: OpenEntry) -> None:
    asked = bench.cell.config.benchmark.summarization
    assert asked is not None
    articles = summarization.load(data_path("summarization", asked.data), asked.limit, asked.fields)
    prompts = [Asked(article.id, summarization.prompt(article)) for article in articles]
    found = answers(bench, prompts, Decoding(asked.max_new_tokens, summarization.STOP))
    used = chosen(asked.language, (text for article in articles for text in article.references))
    rouge, path, scores = summarization.Rouge(used), bench.items_path("summarization"), []
    with open(path, "w", encoding="utf-8") as file:
        for article, prompt, (generated,) in zip(articles, prompts, found.texts, strict=True):
            summary = generated.text.strip()
            scores.append(rouge(summary, article.references))
            item = summarization.Item(
                id=article.id,
                prompt=prompt.prompt,
                text=summary,
                ids=generated.ids,
                finished_by=generated.finished_by,
                references=article.references,
                **scores[-1],
            )
            file.write(json.dumps(vars(item)) + "\n")
    result = summarization.summarise(scores)
    entry.items_file = path.name
    entry.parameters = {"max_new_tokens": asked.max_new_tokens, "language": used}
    entry.figures = {
        **result.means,
        **{f"{measure}_standard_error": _error([score[measure] for score in scores]) for measure in result.means},
        "items": result.items,
        "new_tokens": sum(len(one.ids) for (one,) in found.texts),
        **found.figures,
    }


def _error(scores: Sequence[float]) -> float | None:
    error = standard_error(scores)
    return None if error is None else 100 * error

"""Multiple choice by log-likelihood: all choices of a question are scored, the likeliest is the answer."""

import json

from experiments.benchmarks.plugin import Bench, Entry
from experiments.cells.plan import data_path
from experiments.core.scoring import ScoreRequest, score
from experiments.tasks import multiple_choice


def test_multiple_choice(bench: Bench, entry: Entry) -> None:
    asked, text = bench.cell.config.benchmark.multiple_choice, bench.require_text()
    assert asked is not None
    found = multiple_choice.load(data_path("multiple_choice", asked.data), asked.limit, asked.shots)
    requests: list[ScoreRequest] = []
    cut = 0
    for question in found.questions:
        shots = found.shots_by_subject.get(question.subject, [])[: asked.shots]
        context, endings = multiple_choice.prompt(question, shots, asked.style)
        made, was_cut = text.continuations(context, endings)
        requests += made
        cut += was_cut
    done = 0

    def on_done(count: int) -> None:
        nonlocal done
        done += count
        bench.on_items(done, len(requests))

    options = bench.cell.config.scoring
    scored = iter(score(bench.runtime, bench.traits, requests, options.token_budget, options.sort_by_length, on_done))
    verdicts = []
    path = bench.items_path("multiple_choice")
    with open(path, "w") as file:
        for question in found.questions:
            mine = [next(scored) for _ in question.choices]
            logprobs = [one.total for one in mine]
            lengths = _lengths(asked.normalise, question.choices, [len(one.logprobs) for one in mine])
            verdict = multiple_choice.score(question, logprobs, asked.normalise, lengths)
            verdicts.append(verdict)
            item = {
                "id": question.id,
                "subject": question.subject,
                "question": question.text,
                "choices": list(question.choices),
                "answer": question.answer,
                "predicted": verdict.predicted,
                "is_right": verdict.is_right,
                "logprobs": logprobs,
                "lengths": lengths,
            }
            file.write(json.dumps(item) + "\n")
    result = multiple_choice.summarise(verdicts)
    entry.items_file = path.name
    entry.parameters = {"shots": asked.shots, "style": asked.style, "normalise": asked.normalise}
    entry.figures = {
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "items": result.items,
        "by_subject": result.by_subject,
        "cut_contexts": cut,
    }


def _lengths(normalise: str, choices: tuple[str, ...], tokens: list[int]) -> list[int]:
    """Return what a choice's log-probability is divided by."""
    if normalise == "none":
        return [1] * len(choices)
    return tokens if normalise == "tokens" else [max(1, len(choice.encode())) for choice in choices]

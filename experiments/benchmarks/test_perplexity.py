"""Perplexity of a text, per token and per byte, in windows."""

import json

from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.benchmarks.scoring import Scoring
from runtime_matrix.experiments.cells.data import data_path
from runtime_matrix.experiments.core.scoring import ScoreRequest
from runtime_matrix.experiments.tasks import perplexity


def test_perplexity(bench: Bench, entry: OpenEntry) -> None:
    asked, text = bench.cell.config.benchmark.perplexity, bench.require_text()
    assert asked is not None
    content = perplexity.read_text(data_path("perplexity", asked.data), asked.max_bytes)
    windows = perplexity.windows(text.encode(content), text.bos_id, asked.window, asked.stride)[: asked.limit]
    requests = [ScoreRequest(window.ids, window.first_scored) for window in windows]
    scoring = Scoring(bench, len(requests))
    scored = list(scoring.scores(requests))
    scored_ids = [token for window in windows for token in window.ids[window.first_scored :]]
    n_bytes = len(content.encode()) if asked.limit is None else len(text.decode(scored_ids).encode())
    result = perplexity.summarise([list(one.logprobs) for one in scored], n_bytes)
    path = bench.items_path("perplexity")
    with open(path, "w", encoding="utf-8") as file:
        for index, one in enumerate(scored):
            file.write(json.dumps({"window": index, "tokens": len(one.logprobs), "logprob": one.total}) + "\n")
    entry.items_file = path.name
    entry.parameters = {
        "window": asked.window,
        "stride": asked.stride or asked.window - 1,
        "windows": len(windows),
        "window_rule": perplexity.rule(text.bos_id, asked.stride),
    }
    entry.figures = {
        "perplexity": result.perplexity,
        "standard_error": result.standard_error,
        "per_byte": result.per_byte_perplexity,
        "tokens": result.tokens,
        "bytes": n_bytes,
        **scoring.figures(),
    }

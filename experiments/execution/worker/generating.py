"""Generation for benchmarks: prompts in, texts out, with progress; cached responses are reused."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.evaluation.generation import GenerationReport
from runtime_matrix.experiments.evaluation.requests import Decoding, Failed, Generated, GenerateRequest, TextPrompt
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.tasks.bench import Answers, OnText
from runtime_matrix.runtimes.base import Unsupported

if TYPE_CHECKING:
    from runtime_matrix.experiments.execution.worker.bench import CellBench


def generated_answers(bench: CellBench, prompts: Sequence[TextPrompt], decoding: Decoding, on_text: OnText) -> Answers:
    """Return the texts of each prompt; `on_text` is called when a text is finished. Cached texts are finished first."""
    requests, cut = _requests(bench, bench.require_text(), prompts, decoding)
    return _Answering(bench, requests, on_text, bench.eos_ids).run(cut)


def generated(bench: CellBench, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> Answers:
    """Return the texts of each request; `stop_ids` end a text besides the model's end-of-text tokens."""
    eos_ids = tuple(dict.fromkeys((*bench.eos_ids, *stop_ids)))
    return _Answering(bench, requests, lambda item, sample, result: None, eos_ids).run(0)


def _requests(
    bench: CellBench, text: Text, prompts: Sequence[TextPrompt], decoding: Decoding
) -> tuple[list[GenerateRequest], int]:
    requests, cut = [], 0
    for prompt in prompts:
        ids, was_cut = text.prompt(prompt.prompt, decoding.max_new_tokens)
        cut += was_cut
        seeds = tuple(_seed(bench.seed, prompt.id, sample) for sample in range(decoding.samples))
        requests.append(
            GenerateRequest(ids, decoding.max_new_tokens, decoding.stop, decoding.temperature, decoding.top_p, seeds)
        )
    return requests, cut


class _Answering:
    """Takes texts from the response cache, and generates the missing ones."""

    def __init__(
        self,
        bench: CellBench,
        requests: Sequence[GenerateRequest],
        on_text: OnText,
        eos_ids: Sequence[int],
    ):
        self._bench, self._requests, self._on_text, self._eos_ids = bench, requests, on_text, eos_ids
        self._total, self._done = sum(len(request.seeds) for request in requests), 0
        self._texts: dict[tuple[int, int], Generated] = {}  # by item and sample

    def run(self, cut: int) -> Answers:
        responses = self._bench.responses
        for item, request in enumerate(self._requests):
            for sample, text in enumerate(responses.texts(request, self._eos_ids)):
                if text is not None:
                    self._take(item, sample, text)
        cached = len(self._texts)
        report = self._generate() if cached < self._total else {}
        texts = [
            [self._texts[item, sample] for sample in range(len(request.seeds))]
            for item, request in enumerate(self._requests)
        ]
        note = self._bench.responses.note
        return Answers(texts, {"cut_prompts": cut, "cached_responses": cached, "cache_note": note, **report})

    def _generate(self) -> dict[str, float | None]:
        """Generate the missing samples, those of a prompt in one request."""
        bench, missing = self._bench, []
        for item, request in enumerate(self._requests):
            samples = [sample for sample in range(len(request.seeds)) if (item, sample) not in self._texts]
            if samples:
                seeds = tuple(request.seeds[sample] for sample in samples)
                missing.append((item, samples, dataclasses.replace(request, seeds=seeds)))

        failures: list[tuple[int, str]] = []

        def on_text(index: int, sample: int, result: Generated | Failed) -> None:
            item, samples, _ = missing[index]
            if isinstance(result, Failed):
                failures.append((item, result.reason))
                interruption.check()
                return
            bench.responses.keep_text(self._requests[item], samples[sample], self._eos_ids, result)
            interruption.check()
            self._take(item, samples[sample], result)

        report = GenerationReport()
        try:
            with interruption.deferring():
                bench.face.generate(
                    [request for _, _, request in missing],
                    bench.require_text().piecewise,
                    self._eos_ids,
                    bench.generation,
                    on_text,
                    report,
                    bench.drafter,
                )
        except Unsupported as error:
            bench.skip(str(error))
        bench.fail_after(failures, self._total)
        return report.figures()

    def _take(self, item: int, sample: int, result: Generated) -> None:
        self._texts[item, sample] = result
        self._done += 1
        self._bench.report(self._done, self._total)
        self._on_text(item, sample, result)


def _seed(seed: int, item: str, sample: int) -> int:
    """Return a seed for one sample of one item, so that its text does not depend on the other items."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{item}/{sample}".encode()).digest()[:8], "big")

"""A second model in a cell's process, such as a judge: composed, loaded and asked as a cell's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.evaluation.faces import Face, face_of
from runtime_matrix.experiments.evaluation.generation import GenerationReport
from runtime_matrix.experiments.evaluation.requests import Failed, Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.judges.judge import LocalModel, NoReply, OnReply, Reply
from runtime_matrix.experiments.records.code import code_of, targets
from runtime_matrix.experiments.records.environment import environment, machine_facts
from runtime_matrix.experiments.records.schema import to_plain

_ANY_BENCHMARK = "benchmark=[extractive_qa]"  # a cell has one; this one demands nothing of the model


@contextmanager
def opened_model(cell: Cell, runtime: str, folder: str) -> Iterator[LocalModel]:
    """Load the model of a folder under a runtime, on the cell's hardware and threads, and free it at the end."""
    paths = {"model.path": folder, "artifacts_dir": str(cell.artifacts)}
    words = [f"runtime={runtime}", f"hw={cell.config.hw.name}", f"hw.threads={cell.threads}", "model=local"]
    words += [_ANY_BENCHMARK, *(f"{key}={json.dumps(path)}" for key, path in paths.items())]
    own = plan(compose(words), "")
    text = loading.make_text(own)
    if text is None:
        raise UserError(f"{own.facts.tokenizer_problem or 'the model has no tokenizer'}: judge.model needs one")
    hardware = own.hardware(device.resolve(own.config.hw)[0])
    with loading.make_runtime(own.config.runtime) as engine:
        traits = loading.load(own, engine, own.config.runtime, hardware, lambda name: nullcontext())
        yield _Loaded(own, face_of(engine, traits), text)


class _Loaded:
    """A loaded model that continues prompts greedily."""

    def __init__(self, cell: Cell, face: Face, text: Text):
        self._cell, self._face, self._text = cell, face, text

    @property
    def identity(self) -> JsonObject:
        """Return everything that its texts may depend on, as the response cache does."""
        current, resolved = environment(), self._cell.resolved["runtime"]
        return {
            "model": self._cell.facts.digest,
            "runtime": asdict(self._cell.config.runtime),
            "threads": self._cell.threads,
            "machine": [machine_facts(current), current.versions],
            "code": to_plain(code_of(targets(resolved))),
        }

    def generate(self, prompts: Sequence[str], max_new_tokens: int, on_reply: OnReply) -> None:
        """Continue each prompt; a prompt that does not fit into the model's context has no reply."""
        requests: list[GenerateRequest] = []
        numbers: list[int] = []
        for number, prompt in enumerate(prompts):
            ids, was_cut = self._text.prompt(prompt, max_new_tokens)
            if was_cut:
                on_reply(number, NoReply("the prompt is longer than the model's context"))
                continue
            numbers.append(number)
            requests.append(GenerateRequest(ids, max_new_tokens))

        def on_text(index: int, sample: int, result: Generated | Failed) -> None:
            reply = NoReply(result.reason) if isinstance(result, Failed) else self._reply(requests[index], result)
            on_reply(numbers[index], reply)
            interruption.check()

        options, report = self._cell.config.generation, GenerationReport()
        with interruption.deferring():
            self._face.generate(requests, self._text.piecewise, self._cell.facts.eos_ids, options, on_text, report)

    @staticmethod
    def _reply(request: GenerateRequest, result: Generated) -> Reply:
        return Reply(result.text, len(request.ids), len(result.ids))

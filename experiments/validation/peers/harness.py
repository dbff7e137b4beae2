"""The same requests through a backend of lm-evaluation-harness and through our core, in turns, in one process.

With `--through adapter` ours are lm-eval's own requests, answered by the adapter that users call.

Needs an interpreter with lm-eval: `PYTHON -m experiments.validation.peers.harness scoring --vocabulary 4000`. It prints
JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.models import inspect_folder
from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Continuations, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.requests import Generated as GeneratedText
from runtime_matrix.experiments.evaluation.requests import Scored as ScoredRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.harness.encoding import HarnessTokenizer
from runtime_matrix.experiments.harness.language_model import HarnessLM, HarnessOptions
from runtime_matrix.experiments.validation.peers import workloads
from runtime_matrix.experiments.validation.peers.results import Asked, Compared, Generated, Scored
from runtime_matrix.experiments.validation.peers.workloads import MODEL_DIR
from runtime_matrix.runtimes.base import Hardware, ModelSource

Work = Callable[..., Any]  # takes an optional limit of items
_WARM_UP = 8
# What `batch_size=auto` takes where memory suffices, its largest. Its search, 5 passes of 64 of the longest rows before
# each kind of request, is left out in its favour.
_AUTO = 64


@dataclass
class Turn:
    """The times and answers of one contender for the whole work."""

    cpu_s: float
    wall_s: float
    answers: Any


def main() -> int:
    """Print times, ratios and differences of answers as JSON."""
    arguments = _parser().parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        if arguments.work == "scoring":
            workloads.write_model(folder, arguments.vocabulary)
            contenders = _scoring(folder, arguments)
        else:
            contenders = _generation(MODEL_DIR, arguments)
        turns: dict[str, list[Turn]] = {name: [] for name in contenders}
        for work in contenders.values():
            work(_WARM_UP)
        for turn in range(arguments.turns):
            names = list(contenders)
            for name in names if turn % 2 == 0 else reversed(names):
                turns[name].append(_timed(contenders[name]))
        print(json.dumps(asdict(_summary(arguments, turns))))
    return 0


def _timed(work: Work) -> Turn:
    cpu, wall = time.process_time(), time.perf_counter()
    answers = work()
    return Turn(time.process_time() - cpu, time.perf_counter() - wall, answers)


def _scoring(folder: Path, arguments: argparse.Namespace) -> dict[str, Work]:
    questions = list(workloads.choices(arguments.subjects, arguments.questions, arguments.style))
    from lm_eval.api.instance import Instance

    def through(model: Any) -> Work:
        def work(limit: int | None = None) -> list[float]:
            requests = [
                Instance("loglikelihood", {}, (question.prefix + question.stem, ending), index)
                for index, question in enumerate(questions[:limit])
                for ending in question.endings
            ]
            return [logprob for logprob, _ in model.loglikelihood(requests, disable_tqdm=True)]

        return work

    theirs = through(_harness(folder, arguments))
    runtime, traits = _ours(folder, arguments.runtime, arguments.threads)
    options = ScoringConfig(**json.loads(arguments.options))
    if arguments.through == "adapter":
        return {"lm-evaluation-harness": theirs, "ours": through(_adapter(folder, runtime, traits, scoring=options))}

    def ours(limit: int | None = None) -> list[float]:
        text = Text(folder, 0, traits.max_length)
        continuations = text.continuations(
            [Continuations(question.prefix, question.stem, question.endings) for question in questions[:limit]]
        )
        return [
            question.total
            for question in score(
                runtime, traits, [request for requests, _ in continuations for request in requests], options
            )
        ]

    return {"lm-evaluation-harness": theirs, "ours": ours}


def _generation(folder: Path, arguments: argparse.Namespace) -> dict[str, Work]:
    writings = workloads.writings()
    from lm_eval.api.instance import Instance

    def through(model: Any) -> Work:
        def work(limit: int | None = None) -> list[str]:
            requests = []
            for index, writing in enumerate(writings[:limit]):
                options = {"until": list(writing.stop), "max_gen_toks": writing.max_new_tokens, "do_sample": False}
                requests.append(Instance("generate_until", {}, (writing.prompt, options), index))
            texts: list[str] = model.generate_until(requests, disable_tqdm=True)
            return texts

        return work

    theirs = through(_harness(folder, arguments))
    runtime, traits = _ours(folder, arguments.runtime, arguments.threads)
    options = GenerationConfig(**json.loads(arguments.options))
    if arguments.through == "adapter":
        return {"lm-evaluation-harness": theirs, "ours": through(_adapter(folder, runtime, traits, generation=options))}
    eos_ids = inspect_folder(folder).eos_ids

    def ours(limit: int | None = None) -> list[str]:
        text = Text(folder, 0, traits.max_length)
        requests = [
            GenerateRequest(
                text.prompt(writing.prompt, writing.max_new_tokens)[0], writing.max_new_tokens, writing.stop
            )
            for writing in writings[:limit]
        ]
        generations = generate(runtime, traits, requests, text.piecewise, eos_ids, options)
        return [generated.text for (generated,) in generations]

    return {"lm-evaluation-harness": theirs, "ours": ours}


def _harness(folder: Path, arguments: argparse.Namespace) -> Any:
    if arguments.backend == "onnxruntime-genai":
        return _genai(folder, arguments.threads)
    from lm_eval.models.huggingface import HFLM

    size = _AUTO if arguments.batch_size == "auto" else int(arguments.batch_size)
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=size, add_bos_token=True)


def _genai(folder: Path, threads: int) -> Any:
    """Return the backend `onnxruntime-genai` with a graph that its builder has made of the folder."""
    from lm_eval.models.onnxruntime_genai import ONNXRuntimeGenAILM

    graph = Path(tempfile.mkdtemp(prefix="genai-"))
    words = ["-m", "onnxruntime_genai.models.builder", "-m", str(folder), "-o", str(graph), "-p", "fp32", "-e", "cpu"]
    words += ["-c", str(graph / "cache"), "--extra_options", "hf_token=false"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"onnxruntime-genai's builder failed: {done.stderr.strip().splitlines()[-1:]}")
    path = graph / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    path.write_text(json.dumps(config))
    return ONNXRuntimeGenAILM(pretrained=str(graph))


def _adapter(
    folder: Path,
    runtime: Any,
    traits: Any,
    scoring: ScoringConfig | None = None,
    generation: GenerationConfig | None = None,
) -> Any:
    """Return the adapter that users call, over a runtime that is loaded without its configuration."""
    facts = inspect_folder(folder)
    text = Text(folder, facts.bos_id, traits.max_length)

    class Answering:
        def score(self, requests: Sequence[ScoreRequest]) -> list[ScoredRequest]:
            return score(runtime, traits, requests, scoring)

        def generate(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> list[GeneratedText]:
            eos_ids = (*facts.eos_ids, *stop_ids)
            texts = generate(runtime, traits, requests, text.piecewise, eos_ids, generation)
            return [generated for (generated,) in texts]

    return HarnessLM(Answering(), HarnessTokenizer(folder, True), traits.max_length, HarnessOptions(), 0)


def _ours(folder: Path, runtime: str, threads: int) -> tuple[Any, Any]:
    import importlib

    module, _, name = runtime.partition(":")
    engine = getattr(importlib.import_module(module), name)()
    with tempfile.TemporaryDirectory() as artifacts:
        hardware = Hardware("cpu", threads, Path(artifacts))
        return engine, engine.load(ModelSource(str(folder), folder), hardware, lambda _: nullcontext())


def _summary(arguments: argparse.Namespace, turns: dict[str, list[Turn]]) -> Scored | Generated:
    theirs, ours = turns["lm-evaluation-harness"], turns["ours"]
    compared = Compared(
        asked=Asked(**{name: value for name, value in vars(arguments).items() if name != "turns"}),
        cpu_s={name: [turn.cpu_s for turn in own_turns] for name, own_turns in turns.items()},
        wall_s={name: [turn.wall_s for turn in own_turns] for name, own_turns in turns.items()},
        cpu_ratios=[a.cpu_s / b.cpu_s for a, b in zip(theirs, ours, strict=True)],
        items=len(ours[0].answers) // (4 if arguments.work == "scoring" else 1),
    )
    if arguments.work == "scoring":
        return _same_scores(compared, theirs[0].answers, ours[0].answers)
    return _same_texts(compared, theirs[0].answers, ours[0].answers)


def _same_scores(compared: Compared, theirs: Sequence[float], ours: Sequence[float]) -> Scored:
    def predicted(scores: Sequence[float]) -> list[int]:
        return [max(range(4), key=scores[start : start + 4].__getitem__) for start in range(0, len(scores), 4)]

    changed = sum(a != b for a, b in zip(predicted(theirs), predicted(ours), strict=True))
    difference = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
    return Scored(**vars(compared), max_logprob_difference=difference, changed_predictions=changed)


def _same_texts(compared: Compared, theirs: Sequence[str], ours: Sequence[str]) -> Generated:
    text = Text(MODEL_DIR, None, None)
    different = sum(a != b for a, b in zip(theirs, ours, strict=True))
    tokens = sum(len(text.encode(answer)) for answer in ours)
    return Generated(**vars(compared), tokens=tokens, different_texts=different)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("scoring", "generation"))
    parser.add_argument("--vocabulary", type=int, default=4000)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--questions", type=int, default=60, help="per subject")
    parser.add_argument("--style", choices=("letters", "texts"), default="letters")
    parser.add_argument("--batch-size", default="8", help="of lm-evaluation-harness: a number, or auto")
    parser.add_argument("--backend", choices=("hf", "onnxruntime-genai"), default="hf", help="of theirs")
    parser.add_argument("--through", choices=("core", "adapter"), default="core", help="how ours are asked")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runtime", default="runtime_matrix.runtimes.engines.eager:Eager")
    parser.add_argument("--options", default="{}", help="JSON: our scoring or generation options")
    return parser


if __name__ == "__main__":
    sys.exit(main())

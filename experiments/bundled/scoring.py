"""Score the bundled model with the product itself: one sweep over the model as it is and with rounded weights."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from runtime_matrix.experiments.bundled.skills import SKILLS
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.registry import scores
from runtime_matrix.runtimes.weights.rounded import round_to_nearest

FULL = "full"
BITS = (8, 4, 3)
GUESSED_ITEMS = 100
BENCHMARKS = ("perplexity", "multiple_choice", "code", "extractive_qa", "summarization")  # those of the card
GUESSED = tuple(name for name in BENCHMARKS if scores()[name].has_texts)


@dataclass(frozen=True)
class Score:
    """A score, its standard error and the number of items."""

    value: float
    standard_error: float
    items: int


@dataclass(frozen=True)
class Scores:
    """The scores of one set of weights: 0 to 1, except perplexity."""

    perplexity: Score
    multiple_choice: Score
    code: Score
    qa_exact_match: Score
    qa_f1: Score
    rouge_l: Score
    by_subject: dict[str, float]


def score(model: Path, work: Path) -> dict[str, Scores]:
    """Return the scores of the model in the folder, as it is (`full`) and with its matrices rounded to 8, 4 and 3 bits.

    `work` takes the rounded copies and the records.
    """
    folders = {FULL: model, **{f"{bits} bits": work / f"rounded-{bits}" for bits in BITS}}
    for bits in BITS:
        write_rounded(model, folders[f"{bits} bits"], bits)
    records = _measure(list(folders.values()), work / "runs")
    return {name: _scores(records[str(folder)]) for name, folder in folders.items()}


def accepted_guesses(draft: Path, work: Path) -> dict[str, float]:
    """Return how many guessed tokens the bundled model takes for each of its steps, by benchmark."""
    limits = [f"benchmark.{name}.limit={GUESSED_ITEMS}" for name in GUESSED]
    options = [f"benchmark=[{','.join(GUESSED)}]", *limits, "agreement.enabled=false", f"results_dir={work.resolve()}"]
    speculation = ["generation.speculate=draft", f"generation.draft_model={draft.resolve()}"]
    subprocess.run([sys.executable, "-m", "experiments.run", "hw=cpu", *speculation, *options], check=True)
    (path,) = work.glob("*/record.json")
    entries = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return {entry["benchmark"]: entry["figures"]["accepted_tokens_per_step"] for entry in entries}


def score_adapter(name: str, folder: Path, work: Path) -> dict[str, tuple[Score, Score]]:
    """Return the scores of the base and of the adapter in the folder: on its benchmark, and on the base's.

    The rounded weights of the base's card need no counterpart: an adapter is measured as it is.
    """
    own = SKILLS[name].benchmark
    data = {"multiple_choice": "data", "code": "data/code.jsonl", "extractive_qa": "data/extractive_qa.json"}
    runs = {"own": ([own], [f"benchmark.{own}.data={(folder / data[own]).resolve()}"]), "base": (list(data), [])}
    pairs: dict[str, tuple[Score, Score]] = {}
    for run, (benchmarks, options) in runs.items():
        results = work / run
        words = [f"adapter=none,{folder.resolve()}", "hw=cpu", f"benchmark=[{','.join(benchmarks)}]", *options]
        words += ["agreement.enabled=false", "comparison.enabled=false", f"results_dir={results.resolve()}"]
        subprocess.run([sys.executable, "-m", "experiments.run", "-m", *words], check=True)
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/record.json"))]
        before, after = (_adapter_scores(record) for record in records)
        pairs |= {f"{run} {benchmark}": (before[benchmark], after[benchmark]) for benchmark in benchmarks}
    return pairs


def _adapter_scores(record: JsonObject) -> dict[str, Score]:
    figures = {entry["benchmark"]: entry["figures"] for entry in record["benchmarks"] if entry["status"] == "ok"}
    readers = {
        "multiple_choice": ("accuracy", "standard_error", 1),
        "code": ("pass_at_1", "pass_at_1_standard_error", 1),
        "extractive_qa": ("exact_match", "exact_match_standard_error", 100),
    }
    return {
        name: Score(figures[name][value] / scale, figures[name][error] / scale, figures[name]["items"])
        for name, (value, error, scale) in readers.items()
        if name in figures
    }


def write_rounded(model: Path, out: Path, bits: int) -> None:
    """Copy the model with the matrices of its linear layers, the head's too, rounded to nearest; kept as float32."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("*.pt", "*.partial"))
    weights = load_file(out / "model.safetensors")
    for name, weight in weights.items():
        is_linear = weight.ndim == 2 and "embed" not in name
        weights[name] = round_to_nearest(weight.float(), bits) if is_linear else weight.float()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def _measure(models: Sequence[Path], results: Path) -> dict[str, JsonObject]:
    """Return the record of each model folder. CalledProcessError when the sweep failed."""
    paths = ",".join(str(folder.resolve()) for folder in models)
    options = [f"benchmark=[{','.join(BENCHMARKS)}]", "agreement.enabled=false", f"results_dir={results.resolve()}"]
    command = [sys.executable, "-m", "experiments.run", "-m", "model=local", f"model.path={paths}", "hw=cpu"]
    subprocess.run([*command, *options], check=True)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/record.json"))]
    by_path = {record["config"]["model"]["path"]: record for record in records}
    return {str(folder): by_path[str(folder.resolve())] for folder in models}


def _scores(record: JsonObject) -> Scores:
    figures = {entry["benchmark"]: entry["figures"] for entry in record["benchmarks"] if entry["status"] == "ok"}
    text, choice, code = figures["perplexity"], figures["multiple_choice"], figures["code"]
    answers, summaries = figures["extractive_qa"], figures["summarization"]
    answer_items = answers["items"]
    return Scores(
        Score(text["perplexity"], text["standard_error"], text["tokens"]),
        Score(choice["accuracy"], choice["standard_error"], choice["items"]),
        Score(code["pass_at_1"], code["pass_at_1_standard_error"], code["items"]),
        Score(answers["exact_match"] / 100, answers["exact_match_standard_error"] / 100, answer_items),
        Score(answers["f1"] / 100, answers["f1_standard_error"] / 100, answer_items),
        Score(summaries["rougeL"] / 100, summaries["rougeL_standard_error"] / 100, summaries["items"]),
        choice["by_subject"],
    )

"""Golden numbers of the bundled model under eager PyTorch: a changed prompt, cut or score must show here.

python -m tests.golden.golden      measures them and writes the files; for a changed model or a raised version only

Each file names its tolerance, which holds on processors with AVX2 and with AVX-512.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

HERE = Path(__file__).parent
ITEMS = 100  # the first of each benchmark
WINDOWS = 40  # of the perplexity text
CHOICES = 16  # log-probabilities
MARGIN = 0.01  # in logits, of each token of a golden text over the next best: rounding must not turn it
TOLERANCES = {"scores": 1.0, "logprobs": 1e-3, "perplexity": 1e-3}
GENERATED = ("code", "extractive_qa", "summarization")
COMMAND = (
    "runtime=eager",
    "hw=cpu",
    "hw.threads=2",
    "benchmark=[perplexity,multiple_choice,code,extractive_qa,summarization]",
    f"benchmark.perplexity.limit={WINDOWS}",
    *(f"benchmark.{name}.limit={ITEMS}" for name in ("multiple_choice", *GENERATED)),
    "agreement.enabled=false",
    "progress=false",
)


@dataclass(frozen=True)
class Golden:
    scores: dict[str, float]  # items that are right; of summaries the sum of ROUGE-L
    logprobs: list[float]  # of the first choices
    perplexity: float
    texts: dict[str, tuple[str, str]]  # by benchmark: item, text


def measure(folder: Path) -> tuple[Golden, dict[str, list[dict[str, Any]]]]:
    """Return what a run gives, and its items by benchmark."""
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder / 'artifacts'}"]
    command = [sys.executable, "-m", "experiments.run", *COMMAND, *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    (record,) = (folder / "runs").glob("*/record.json")
    figures = {entry["benchmark"]: entry["figures"] for entry in json.loads(record.read_text())["benchmarks"]}
    items = {name: _items(record.parent / f"items-{name}.jsonl") for name in ("multiple_choice", *GENERATED)}
    scores = {
        "multiple_choice": float(sum(item["is_right"] for item in items["multiple_choice"])),
        "code": figures["code"]["pass_at_1"] * ITEMS,
        "extractive_qa": float(sum(item["is_right"] for item in items["extractive_qa"])),
        "summarization": figures["summarization"]["rougeL"] / 100 * ITEMS,
    }
    logprobs = [value for item in items["multiple_choice"] for value in item["logprobs"]][:CHOICES]
    chosen = _chosen()
    texts = {
        name: next(
            ((item["id"], item["text"].rstrip("\n")) for item in items[name] if item["id"] == chosen.get(name)),
            ("", ""),
        )
        for name in GENERATED
    }
    return Golden(scores, logprobs, figures["perplexity"]["perplexity"], texts), items


def read() -> Golden:
    """Return what the files hold."""
    scores = dict(line.split() for line in _lines("scores"))
    texts = {}
    for name in GENERATED:
        item, _, text = (HERE / f"{name}.txt").read_text().partition("\n")
        texts[name] = (item, text.rstrip("\n"))
    (perplexity,) = _lines("perplexity")
    return Golden(
        {name: float(score) for name, score in scores.items()},
        [float(line) for line in _lines("logprobs")],
        float(perplexity),
        texts,
    )


def write(golden: Golden) -> None:
    values = {
        "scores": [f"{name} {score:.2f}" for name, score in golden.scores.items()],
        "logprobs": [f"{value:.5f}" for value in golden.logprobs],
        "perplexity": [f"{golden.perplexity:.5f}"],
    }
    for name, lines in values.items():
        head = f"# tolerance {TOLERANCES[name]:g}; python -m tests.golden.golden\n"
        (HERE / f"{name}.txt").write_text(head + "".join(f"{line}\n" for line in lines))
    for name, (item, text) in golden.texts.items():
        (HERE / f"{name}.txt").write_text(f"{item}\n{text}\n")


def _chosen() -> dict[str, str]:
    """Return the item of each benchmark whose text is golden."""
    paths = {name: HERE / f"{name}.txt" for name in GENERATED}
    return {name: path.read_text().partition("\n")[0] for name, path in paths.items() if path.exists()}


def _lines(name: str) -> list[str]:
    return [line for line in (HERE / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]


def _items(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _clear(items: list[dict[str, Any]], model: Path) -> dict[str, Any]:
    """Return the first item with a text of some length whose every token is clearly the likeliest."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    for item in items:
        prompt, new = tokenizer(item["prompt"])["input_ids"], item["ids"]
        with torch.no_grad():
            logits = module(torch.tensor([[*prompt, *new]])).logits[0, len(prompt) - 1 : -1]
        best = logits.topk(2).values
        is_same = bool((logits.argmax(1) == torch.tensor(new)).all())
        if len(new) > 1 and is_same and float((best[:, 0] - best[:, 1]).min()) > MARGIN:
            return item
    raise RuntimeError("no text is clear at every token")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        golden, items = measure(Path(folder))
    model = ROOT / "experiments" / "bundled" / "model"
    for name in GENERATED:
        item = _clear(items[name], model)
        golden.texts[name] = (item["id"], item["text"].rstrip("\n"))
    write(golden)


if __name__ == "__main__":
    main()

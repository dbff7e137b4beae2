"""Where the data of a benchmark lies: the bundled file, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config import CodeConfig
from runtime_matrix.experiments.tasks import code

BUNDLED = Path(__file__).parents[1] / "bundled"


def data_path(benchmark: str, data: str) -> Path:
    """Return the file or folder of a benchmark: its own, or the bundled one."""
    names = {
        "perplexity": "perplexity.txt",
        "calibration": "calibration.txt",
        "multiple_choice": "multiple_choice",
        "code": "code.jsonl",
        "extractive_qa": "extractive_qa.json",
        "summarization": "summarization.jsonl",
    }
    return BUNDLED / "data" / names[benchmark] if data == "bundled" else Path(data).expanduser()


def draft_folder(draft_model: str) -> Path:
    """Return the folder of the model that guesses ahead: the user's own, or the bundled model's draft."""
    return BUNDLED / "draft" if draft_model == "bundled" else Path(draft_model).expanduser()


def solutions(asked: CodeConfig, problems: Sequence[code.Problem]) -> dict[str, list[str]]:
    """Return the completions that are given instead of a model's, by problem."""
    if asked.solutions == "reference":
        return code.references(problems, data_path("code", asked.data))
    return code.load_solutions(Path(asked.solutions).expanduser(), problems)

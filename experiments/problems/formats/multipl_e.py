"""MultiPL-E (Cassano et al. 2022, arXiv 2208.08227): problems in other languages than Python.

A program is the prompt, a completion, and `tests`, which follow on a new line. There are no reference solutions.
"""

from __future__ import annotations

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.problems.formats.format import Problem, ProblemFormat

_TEXTS = ("name", "language", "prompt", "tests")


def _claims(item: JsonObject) -> bool:
    return "tests" in item and "language" in item


def _read(where: str, item: JsonObject) -> Problem:
    for name in _TEXTS:
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise UserError(f"{where}: {name} must be a text that is not empty, as in MultiPL-E's format")
    stop = item.get("stop_tokens")
    if not isinstance(stop, list) or not stop or not all(isinstance(token, str) and token for token in stop):
        raise UserError(f"{where}: {item['name']}: stop_tokens must be a list of texts, as in MultiPL-E's format")
    return Problem(
        id=item["name"],
        prompt=item["prompt"],
        head=item["prompt"],
        entry_point="",
        test=item["tests"],
        calls_check=False,
        reference=None,
        language=item["language"],
        stop=tuple(stop),
    )


FORMAT = ProblemFormat(3, _claims, _read)

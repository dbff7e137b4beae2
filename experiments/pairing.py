"""From a command line to the cells that are compared: one reference, one or several candidates.

Besides Hydra's overrides, commands take words of their own, such as `against=eager`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.errors import UserError, did_you_mean

_OF_THE_RUNTIME = ("runtime=", "runtime.", "runtime/", "+runtime")
_SWEEP = ("-m", "--multirun")


def own_words(words: Sequence[str], defaults: dict[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """Return the values of the command's own words, and the words that are left for Hydra."""
    found, left = dict(defaults), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in defaults:
            found[key] = value
        elif word.startswith("-") and word not in _SWEEP:
            raise UserError(f"{word} is not an option{did_you_mean(word.lstrip('-'), ['help', 'multirun'])}")
        else:
            left.append(word)
    return found, left


def cells(words: Sequence[str], against: str, command: str, extra: Sequence[str] = ()) -> tuple[Cell, list[Cell]]:
    """Return the reference and the candidates of a sweep over `words`; UserError for a mistake.

    `extra` are overrides that hold unless the user's say otherwise.
    """
    from runtime_matrix.experiments.cells.plan import plan
    from runtime_matrix.experiments.compose import compose

    given = [word for word in words if word not in _SWEEP]
    named = {word.lstrip("+~").partition("=")[0] for word in given}
    given += [word for word in extra if word.partition("=")[0] not in named]
    given.append(f"runtime@reference={against}")
    jobs = expand(given)
    if len(jobs) > 1 and not any(word in _SWEEP for word in words):
        raise UserError("several values are a sweep: add -m, as in -m runtime=compile,onnxruntime")
    candidates = [plan(compose(job), command) for job in jobs]
    shared = [word for word in jobs[0] if not word.startswith(_OF_THE_RUNTIME)]
    models = {(cell.facts.digest, cell.config.hw.name) for cell in candidates}
    if len(models) > 1:
        raise UserError("cells of several models or machines have no reference in common: one at a time")
    return plan(compose([f"runtime={against}", *shared]), command), candidates


def expand(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a sweep, as Hydra's own sweeper would."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise UserError(f"{error.override}: {str(error).splitlines()[0]}") from error
    choices: list[list[str]] = []
    for word, one in zip(words, overrides, strict=True):
        if one.is_sweep_override():
            key: Any = one.get_key_element()
            choices.append([f"{key}={value}" for value in one.sweep_string_iterator()])
        else:
            choices.append([word])
    return [list(job) for job in itertools.product(*choices)]

"""Turn a command line into the cells to compare: one reference, one or several candidates.

Besides Hydra's overrides, commands take options of their own, such as `against=eager`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.arguments import Arguments, read_arguments
from runtime_matrix.experiments.config.compose import compose, show
from runtime_matrix.experiments.config.errors import UserError

_RUNTIME_PREFIXES = ("runtime=", "runtime.", "runtime/", "+runtime")


def own_words(words: Sequence[str], defaults: dict[str, str | None]) -> tuple[dict[str, str | None], Arguments]:
    """Return the values of the command's own options, and the parsed rest; UserError for an unknown flag."""
    values, remaining = dict(defaults), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in defaults:
            values[key] = value
        else:
            remaining.append(word)
    return values, read_arguments(remaining)


def cells(given: Arguments, against: str, command: str, extra: Sequence[str] = ()) -> tuple[Cell, list[Cell]]:
    """Return the reference and the candidates of a command line; UserError for a mistake.

    `extra` are overrides that apply unless the user sets the same keys. With `--cfg job`, the configurations are
    printed and SystemExit is raised.
    """
    keys = {word.lstrip("+~").partition("=")[0] for word in given.overrides}
    words = [*given.overrides, *(word for word in extra if word.partition("=")[0] not in keys)]
    jobs = expand([*words, f"runtime@reference={against}"])
    if len(jobs) > 1 and not given.is_sweep:
        raise UserError("several values are a sweep: add -m, as in -m runtime=compile,onnxruntime")
    if given.shown is not None:
        show([compose(job) for job in jobs], is_resolved=True)
        raise SystemExit(0)
    candidates = [plan(compose(job), command) for job in jobs]
    if any(cell.config.retry != "none" for cell in candidates):
        raise UserError("retry=halve is for sweeps, python -m experiments.run: here both sides do the same work")
    # What a profile recommends for the runtime is applied to the candidates alone; the rest, to both sides.
    words = [*(word for word in jobs[0] if not word.startswith("hw.apply=")), *candidates[0].config.hw.applied]
    shared = [word for word in words if not word.startswith(_RUNTIME_PREFIXES)]
    models = {(cell.facts.digest, cell.config.hw.name, cell.config.model.max_tokens) for cell in candidates}
    if len(models) > 1:
        raise UserError(
            "cells of several models, hardware profiles or values of model.max_tokens have no common reference: name "
            "one of each"
        )
    return plan(compose([f"runtime={against}", *shared]), command), candidates


def expand(words: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a sweep, as Hydra's own sweeper would; UserError for bad syntax."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise UserError(f"{error.override}: {str(error).splitlines()[0]}") from error
    choices: list[list[str]] = []
    for word, override in zip(words, overrides, strict=True):
        if override.is_sweep_override():
            key: Any = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([word])
    return [list(job) for job in itertools.product(*choices)]

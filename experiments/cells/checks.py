"""Refuses mistakes that the configuration and the files alone show, before anything is loaded."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import calibration_path, draft_folder
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.targets import NO_OPTIONS, load_class, module_of
from runtime_matrix.experiments.records.code import constructor_options
from runtime_matrix.experiments.tasks import files
from runtime_matrix.runtimes.base import Unsupported

# Whose constructors check their options and import nothing large.
_CONSTRUCTED = ("runtime_matrix.runtimes.weights.", "runtime_matrix.runtimes.placements.")
_NOT_OF_USERS = {"dtype", "weights", "placement"}  # that an engine is given beside its options


def check_configuration(config: CellConfig) -> None:
    """Check what needs no file: names, targets, options, and that nothing given would be ignored. Raises UserError."""
    _check_names(config)
    _check_ignored(config)


def check_files(config: CellConfig, facts: models.ModelFacts, artifacts: Path) -> None:
    """Check lengths against the model's context, the data of each benchmark, and the draft model. Raises UserError."""
    _check_benchmarks(config, facts)
    _check_draft(config, facts, artifacts)


def _check_names(config: CellConfig) -> None:
    """Refuse names that no folder can have, and targets that are nowhere."""
    name = config.runtime.name
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]{1,80}", name) or name in (".", ".."):
        raise UserError(
            f"runtime.name={name[:40]!r}: 1 to 80 characters, no slash and no line end; it becomes a folder's name"
        )
    for key in ("results_dir", "artifacts_dir"):
        if not getattr(config, key).strip():
            raise UserError(f"{key} is empty: give a folder")
    for which in ("runtime", "reference"):
        runtime = getattr(config, which)
        for part in ("engine", "weights", "placement"):
            target = getattr(runtime, part).get("target")
            if target is not None:
                _check_target(f"{which}.{part}.target", target)
                _check_options(f"{which}.{part}", getattr(runtime, part))
    for task, options in config.benchmark.items():
        task.check(options)


def _check_target(key: str, target: Any) -> None:
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", target):
        raise UserError(f"{key}={target}: give MODULE:CLASS, as in runtimes.engines.eager:Eager")
    package = module_of(target).partition(".")[0]
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UserError(f"{key}={target}: there is no module {package} here; install it, or set PYTHONPATH")


def _check_options(key: str, part: JsonObject) -> None:
    """Refuse options that the class's constructor does not take; what it inherits is checked when it is loaded."""
    given = part.keys() - NO_OPTIONS
    for name in sorted(given & _NOT_OF_USERS):
        raise UserError(f"{key}.{name} is given as {key.partition('.')[0]}.{name}")
    known = constructor_options(part["target"])
    unknown = sorted(given - known) if known is not None else []
    if unknown:
        name = part["target"].rpartition(":")[2]
        options = did_you_mean(unknown[0], (known or set()) - _NOT_OF_USERS)
        raise UserError(f"{key}.{unknown[0]} is no option of {name}{options}")
    if module_of(part["target"]).startswith(_CONSTRUCTED):
        try:
            load_class(part["target"])(**{name: part[name] for name in given})
        except (Unsupported, TypeError, ValueError) as error:
            raise UserError(f"{key}: {error}") from error


def _check_ignored(config: CellConfig) -> None:
    """Refuse what was given and would be ignored: what is measured must be what was asked."""
    model = config.model
    for kind, given in (("local", model.path), ("hub", model.id), ("random", model.architecture or model.seed)):
        if given and model.kind != kind:
            name = {"local": "path", "hub": "id"}.get(kind, "architecture" if model.architecture else "seed")
            raise UserError(
                f"model.{name} is of model={kind}, and model={model.kind} would ignore it: add model={kind}"
            )
    if config.generation.draft_model is not None and config.generation.speculate != "draft":
        raise UserError("generation.draft_model would be ignored: add generation.speculate=draft")


def _check_benchmarks(config: CellConfig, facts: models.ModelFacts) -> None:
    files.check_regular(calibration_path(config.calibration.data), "calibration.data=FILE, a text")
    for task, options in config.benchmark.items():
        task.check_model(options, facts)
    for task, options in config.benchmark.items() if facts.has_tokenizer else ():
        task.check_data(options)  # without a tokenizer the benchmarks that need text are skipped, with that reason


def _check_draft(config: CellConfig, facts: models.ModelFacts, artifacts: Path) -> None:
    options = config.generation
    if options.speculate != "draft":
        return
    if options.draft_model is None:
        raise UserError(
            "generation.speculate=draft needs a smaller model: set generation.draft_model=DIR, or bundled for the "
            "bundled model's"
        )
    vocabulary = models.inspect_folder(draft_folder(options.draft_model), artifacts).vocabulary
    if vocabulary != facts.vocabulary:
        raise UserError(
            f"generation.draft_model={options.draft_model} has a vocabulary of {vocabulary}, the model one of "
            f"{facts.vocabulary}: a draft must speak the same tokens"
        )

"""Check a configuration and its files for mistakes before anything is loaded."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import calibration_path, draft_folder
from runtime_matrix.experiments.cells.shard_checks import check_items, check_shards
from runtime_matrix.experiments.config import data_files, models
from runtime_matrix.experiments.config.adapters import NONE as NO_ADAPTER
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.targets import NO_OPTIONS, load_class, module_of
from runtime_matrix.experiments.launchers.registry import LOCAL
from runtime_matrix.experiments.records.code import constructor_options, declared_texts
from runtime_matrix.experiments.tasks.registry import benchmarks
from runtime_matrix.experiments.tasks.task import QualityTask
from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.gguf_header import is_gguf

# Modules whose constructors check their options and import nothing large.
_CHECKED_MODULES = ("runtime_matrix.runtimes.weights.", "runtime_matrix.runtimes.placements.")
_ENGINE_ARGUMENTS = {"dtype", "weights", "placement"}  # arguments that an engine receives besides its options


def check_configuration(config: CellConfig) -> None:
    """Check what needs no file: names, targets and options, and that no option would be ignored. Raises UserError."""
    _check_names(config)
    _check_ignored(config)
    _check_rows_by_length(config)
    _check_judge(config)
    check_shards(config)


def check_files(config: CellConfig, facts: models.ModelFacts, artifacts: Path) -> None:
    """Check the model's layers and context length, the data of each benchmark, the draft model. Raises UserError."""
    if declared_texts(config.runtime.engine["target"], "layer_types"):
        models.check_layers(facts, config.model.architecture)
    _check_benchmarks(config, facts)
    if facts.has_tokenizer:
        _check_strategy(config)
        check_items(config)
    _check_draft(config, facts, artifacts)


def _check_names(config: CellConfig) -> None:
    """Refuse names that are not valid folder names, and targets that do not exist."""
    name = config.runtime.name
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]{1,80}", name) or name in (".", ".."):
        raise UserError(
            f"runtime.name={name[:40]!r} cannot be a folder's name: use 1 to 80 characters, no slash and no line break"
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
            _check_addresses(f"{which}.{part}", getattr(runtime, part))
    for task, options in config.benchmark.items():
        task.check(options)


def _check_strategy(config: CellConfig) -> None:
    """Refuse a strategy that no chosen benchmark follows, or that the benchmark's options or data contradict."""
    if config.strategy.strategy is None:
        return
    takers = [(task, options) for task, options in config.benchmark.items() if task.takes_strategies]
    if not takers:
        raise UserError(
            f"strategy={config.strategy.name} would be ignored: it is for programs, so add the benchmark code, as in "
            "'benchmark=[code]'"
        )
    for task, options in takers:
        task.check_strategy(options, config.strategy)


def _check_judge(config: CellConfig) -> None:
    """Refuse a judge whose options do not work, or that none of the chosen benchmarks has answers for."""
    if config.judge.judge is None:
        return
    if not any(isinstance(task, QualityTask) and task.rubric is not None for task, _ in config.benchmark.items()):
        judged = [task.name for task in benchmarks().values() if isinstance(task, QualityTask) and task.rubric]
        raise UserError(
            f"judge={config.judge.name} would be ignored: add a benchmark whose answers it judges, as in "
            f"'benchmark=[{judged[0]}]'; there are {', '.join(judged)}"
        )
    config.judge.judge.check(config.judge.options)


def _check_addresses(key: str, part: JsonObject) -> None:
    """Refuse addresses with a password or a query: options are part of the record, which is shared."""
    for name, value in part.items():
        for address in value if isinstance(value, list) else [value]:
            if isinstance(address, str) and re.search(r"://\S*[@?]", address):
                raise UserError(
                    f"{key}.{name} must not contain a password or a query, as records have it: put the API key into "
                    "the environment"
                )


def _check_target(key: str, target: Any) -> None:
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", target):
        raise UserError(f"{key}={target}: give MODULE:CLASS, as in runtimes.engines.eager:Eager")
    package = module_of(target).partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise UserError(f"{key}={target}: there is no module {package} here; install it, or set PYTHONPATH")


def _check_options(key: str, part: JsonObject) -> None:
    """Refuse options that the constructor does not take; inherited constructors are checked when they are called."""
    given = part.keys() - NO_OPTIONS
    for name in sorted(given & _ENGINE_ARGUMENTS):
        raise UserError(f"{key}.{name} is not an option here: use {key.partition('.')[0]}.{name}")
    known = constructor_options(part["target"])
    unknown = sorted(given - known) if known is not None else []
    if unknown:
        name = part["target"].rpartition(":")[2]
        options = did_you_mean(unknown[0], (known or set()) - _ENGINE_ARGUMENTS)
        raise UserError(f"{key}.{unknown[0]} is not an option of {name}{options}")
    for check in declared_texts(part["target"], "option_checks"):
        try:
            load_class(check)({name: part[name] for name in given})
        except Unsupported as error:
            raise UserError(f"{key}.{error}") from error
    if module_of(part["target"]).startswith(_CHECKED_MODULES):
        try:
            load_class(part["target"])(**{name: part[name] for name in given})
        except (Unsupported, TypeError, ValueError) as error:
            raise UserError(f"{key}: {error}") from error


def _check_ignored(config: CellConfig) -> None:
    """Refuse options that would be ignored."""
    model = config.model
    for kind, given in (("local", model.path), ("hub", model.id), ("random", model.architecture or model.seed)):
        if given and model.kind != kind:
            name = {"local": "path", "hub": "id"}.get(kind, "architecture" if model.architecture else "seed")
            raise UserError(
                f"model.{name} belongs to model={kind}; model={model.kind} would ignore it: add model={kind}"
            )
    if not (model.kind == "local" and is_gguf(Path(str(model.path)))):
        for name in ("tokenizer", "reference"):
            if getattr(model, name) is not None:
                raise UserError(f"model.{name} would be ignored: it belongs to model=local model.path=FILE.gguf")
    if config.retry != "none" and config.launcher.name != LOCAL:
        raise UserError(f"retry={config.retry} would be ignored: it needs launcher={LOCAL}")
    if config.adapter == NO_ADAPTER and config.merge_adapter is not None:
        raise UserError(f"merge_adapter={str(config.merge_adapter).lower()} would be ignored: add adapter=DIR")
    if config.adapter != NO_ADAPTER and model.reference is not None:
        raise UserError("model.reference would compare with a model without the adapter: leave one of them out")
    if config.generation.draft_model is not None and config.generation.speculate != "draft":
        raise UserError("generation.draft_model would be ignored: add generation.speculate=draft")
    if config.generation.prefill_chunk is not None and not config.generation.kv_cache:
        raise UserError(
            "generation.prefill_chunk would be ignored: without a cache every step runs all tokens at once; add "
            "generation.kv_cache=true"
        )


def _check_rows_by_length(config: CellConfig) -> None:
    """Refuse lengths that are no numbers, and options with which the table of rows would be ignored."""
    scoring, key = config.scoring, "scoring.rows_by_length"
    if scoring.rows_by_length is None:
        return
    for length in scoring.rows_by_length:
        if not (length.isdecimal() and int(length) > 0 and length == str(int(length))):
            raise UserError(
                f"{key}: {length[:40]!r} is not a number of tokens: give lengths, as in {{1000: 16, 2000: 8}}"
            )
    if not scoring.rows_by_length:
        raise UserError(f"{key} is empty: give lengths and rows, as in {{1000: 16, 2000: 8}}, or null")
    others = {
        "scoring.token_budget": scoring.token_budget is not None,
        "scoring.batch=false": not scoring.batch,
        "scoring.batch_invariant=true": scoring.batch_invariant,
        "batch=auto": config.batch is not None,
    }
    for other in [name for name, is_set in others.items() if is_set]:
        raise UserError(f"{key} and {other} both say how many rows a batch has: leave one of them out")


def _check_benchmarks(config: CellConfig, facts: models.ModelFacts) -> None:
    data_files.check_regular(calibration_path(config.calibration.data), "calibration.data=FILE, a text")
    for task, options in config.benchmark.items():
        task.check_model(options, facts)
    for task, options in config.benchmark.items() if facts.has_tokenizer else ():
        task.check_data(options)  # without a tokenizer, benchmarks of text are skipped with that reason
        task.check_sandbox(options, config.sandbox)


def _check_draft(config: CellConfig, facts: models.ModelFacts, artifacts: Path) -> None:
    options = config.generation
    if options.speculate != "draft":
        return
    if options.draft_model is None:
        raise UserError(
            "generation.speculate=draft needs a smaller model: set generation.draft_model=DIR, or bundled for the "
            "bundled model's draft"
        )
    vocabulary = models.inspect_folder(draft_folder(options.draft_model), artifacts).vocabulary
    if vocabulary != facts.vocabulary:
        raise UserError(
            f"generation.draft_model={options.draft_model} has a vocabulary of {vocabulary}, the model has "
            f"{facts.vocabulary}: use a draft model with the same tokenizer"
        )

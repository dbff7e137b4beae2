"""Plan a cell from a configuration: its model, data and hardware. Files are read; torch is not imported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runtime_matrix.experiments.cells.batch_size import with_batch_size, with_rows_of
from runtime_matrix.experiments.cells.checks import check_configuration, check_files
from runtime_matrix.experiments.cells.chosen_items import with_chosen_items
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.cells.length_limit import (
    check_length_limit,
    with_length_limit,
    without_moot_limit,
)
from runtime_matrix.experiments.config import gguf_models, models
from runtime_matrix.experiments.config.adapters import NONE as NO_ADAPTER
from runtime_matrix.experiments.config.adapters import AdapterFacts, inspect_adapter, with_adapter
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.config.validate import build, identity_of
from runtime_matrix.experiments.records.code import code_of, targets
from runtime_matrix.experiments.records.schema import Code
from runtime_matrix.runtimes.base import Adapter, Hardware, ModelSource
from runtime_matrix.runtimes.gguf_header import is_gguf

_FEWEST_ROWS = 8  # smallest batch for which an engine with fixed bounds is built


_TASKS = "runtime_matrix.experiments.tasks"


@dataclass(frozen=True)
class Cell:
    """One row of the matrix, before it is measured. It is picklable, because it is sent to child processes."""

    config: CellConfig
    resolved: JsonObject  # the configuration as plain data, for the record
    facts: models.ModelFacts
    source: ModelSource
    command: str
    artifacts: Path
    reference_facts: models.ModelFacts | None = None  # of `model.reference`; None: the reference runs the cell's model
    adapter: AdapterFacts | None = None

    @property
    def label(self) -> str:
        """Return RUNTIME-MODEL-HARDWARE, and strategy and judge if there are any, for folders; not unique."""
        strategy = [] if self.config.strategy.strategy is None else [self.config.strategy.name]
        judge = [] if self.config.judge.judge is None else [self.config.judge.name]
        parts = [self.config.runtime.title, self.model_name, self.config.hw.name, *strategy, *judge]
        return "-".join(parts)

    @property
    def model_name(self) -> str:
        """Return the model's name without slashes: its folder, its id on the hub, or its kind; and its adapter."""
        model = self.config.model
        name = model.kind
        if model.kind == "local":
            name = Path(str(model.path)).name
        elif model.kind == "hub":
            name = str(model.id).replace("/", "--")
        return name if self.adapter is None else f"{name}+{self.adapter.name}"

    @property
    def is_reference(self) -> bool:
        """Whether the cell runs exactly the reference's runtime, dtype included; it never merges an adapter."""
        return self.config.runtime == self.config.reference and not self.config.merge_adapter

    @property
    def is_reference_in_own_dtype(self) -> bool:
        """Whether the cell runs the reference's runtime, in any dtype."""
        if self.config.merge_adapter:
            return False
        return dataclasses.replace(self.config.runtime, dtype=self.config.reference.dtype) == self.config.reference

    def is_variant_of(self, other: Cell) -> bool:
        """Whether both run the same work on the same runtime and differ only in how it is run, as in `hw.threads`."""
        return self.config != other.config and _without_run_options(self.config) == _without_run_options(other.config)

    @property
    def config_hash(self) -> str:
        """Return 16 hex digits of everything that affects figures: options, model and benchmark versions."""
        later = {name: version for name, version in self.config.benchmark.versions().items() if version > 1}
        text = json.dumps(
            [
                identity_of(CellConfig, self.resolved),
                self.facts.digest,
                *([later] if later else []),
                *([self.reference_facts.digest] if self.reference_facts is not None else []),
            ],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property  # sources are parsed, which takes a fifth of a second
    def code(self) -> Code:
        """Return the code of the cell's runtime, its reference and its benchmarks, see `records.code`."""
        return code_of([*targets(self.resolved["runtime"]), *targets(self.resolved["reference"]), *self._tasks])

    @property
    def reference_code(self) -> Code:
        """Return the code that computes the reference's outputs."""
        return code_of([*targets(self.resolved["reference"]), *self._tasks])

    @property
    def _tasks(self) -> list[str]:
        """The MODULE:CLASS names of the benchmarks outside `tasks/`, which `records.code` does not cover."""
        classes = [type(task) for task, _ in self.config.benchmark.items()]
        own = f"{_TASKS}."
        return [f"{cls.__module__}:{cls.__qualname__}" for cls in classes if not cls.__module__.startswith(own)]

    @property
    def of_reference(self) -> Cell:
        """Return the cell as the reference runs it: an adapter beside the weights, and the model `model.reference`,
        under the cell's own tokenizer."""
        other = self.reference_facts
        if other is None:
            return dataclasses.replace(self, config=dataclasses.replace(self.config, merge_adapter=None))
        facts = dataclasses.replace(other, tokenizer=self.facts.tokenizer, bos_id=self.facts.bos_id)
        source = ModelSource(
            other.digest, other.folder, stored_method=other.quantized, max_tokens=self.source.max_tokens
        )
        return dataclasses.replace(self, facts=facts, source=source, reference_facts=None)

    def shares_base_with(self, other: Cell) -> bool:
        """Whether the cells differ in nothing but adapters of the same layers, so that one loaded base serves both."""
        if self.adapter is None or other.adapter is None or self.adapter.layers != other.adapter.layers:
            return False
        mine, theirs = (dataclasses.replace(cell.config, adapter=NO_ADAPTER) for cell in (self, other))
        return mine == theirs and self.source.base == other.source.base

    @property
    def uses_responses(self) -> bool:
        """Whether cached responses of the same runtime and model are reused."""
        mode = self.config.responses.mode
        return mode == "use" or (mode == "keep" and self.config.resume)

    @property
    def threads(self) -> int:
        """Return the number of CPU threads: `hw.threads`, or one per core that this process may use."""
        return self.config.hw.threads or len(os.sched_getaffinity(0))

    def with_token_budget(self, tokens: int) -> Cell:
        """Return the cell with this token budget for scoring, generation and the benchmarks that batch."""
        config = dataclasses.replace(
            self.config,
            scoring=dataclasses.replace(self.config.scoring, token_budget=tokens),
            generation=dataclasses.replace(self.config.generation, token_budget=tokens),
            benchmark=self.config.benchmark.with_token_budget(tokens),
        )
        return dataclasses.replace(self, config=config)

    def hardware(self, device: str) -> Hardware:
        """Return what a runtime is loaded on; `device` is cpu or cuda."""
        return Hardware(device, self.threads, self.artifacts, self.config.hw.facts.compute_capability)


def alike(cells: Sequence[Cell]) -> list[list[int]]:
    """Return the indexes of the cells that are compared with each other.

    They have one model, profile, strategy and `model.max_tokens`.
    """
    groups: dict[tuple[str, str, str, int | None], list[int]] = {}
    for index, cell in enumerate(cells):
        key = (cell.facts.digest, cell.config.hw.name, cell.config.strategy.name, cell.config.model.max_tokens)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def baselines(cells: Sequence[Cell]) -> set[int]:
    """Return the indexes of the cells that the others of a sweep are compared with.

    There are one or more per model, profile, strategy and `model.max_tokens`: other answers are not compared.

    This is the reference; of several that differ only in how they are run, such as their threads, it is the first, and
    the others are compared with it. If a sweep lacks it, as a sweep in bfloat16 does, it is the reference in the cells'
    dtype, because speeds need a baseline that does the same work. Logits are always compared with the reference's.
    """
    indexes: set[int] = set()
    for group in alike(cells):
        exact = [index for index in group if cells[index].is_reference]
        exact = [index for index in exact if index == exact[0] or not cells[index].is_variant_of(cells[exact[0]])]
        indexes |= set(exact or [index for index in group if cells[index].is_reference_in_own_dtype][:1])
    return indexes


def _without_run_options(config: CellConfig) -> CellConfig:
    """Return the configuration without the options that change how fast the same work is done."""
    return dataclasses.replace(
        config,
        batch=None,
        batch_size=None,
        benchmark=with_rows_of(config.benchmark, 1),
        hw=dataclasses.replace(config.hw, threads=None),
        scoring=ScoringConfig(),
        generation=GenerationConfig(),
        comparison=dataclasses.replace(config.comparison, batched=None),
    )


def plan(resolved: JsonObject, command: str) -> Cell:
    """Return the cell of a configuration, checked as far as possible without torch; UserError for the first mistake."""
    shape = resolved.get("model", {}).get("architecture")
    if isinstance(shape, str):
        raise UserError(f"model.architecture={shape}: choose a shape with a slash, model/architecture={shape}")
    config: CellConfig = build(CellConfig, _named(resolved))
    resolved = with_length_limit(with_chosen_items(_named(resolved), config), config)
    resolved = _with_rows(with_batch_size(resolved, config), config)
    config = build(CellConfig, resolved)
    if not config.benchmark.chosen():
        raise UserError("no benchmark is chosen: name at least one, as in 'benchmark=[latency,perplexity]'")
    check_configuration(config)
    artifacts = Path(config.artifacts_dir)
    folder = _folder(config)
    if folder is None:
        facts = models.random_facts(dict(config.model.architecture or {}), config.model.seed)
    elif is_gguf(folder):
        facts = gguf_models.inspect_file(
            folder, artifacts, _path(config.model.tokenizer), _path(config.model.reference)
        )
    else:
        facts = models.inspect_folder(folder, artifacts)
    resolved = without_moot_limit(resolved, config, facts.max_length)
    config = build(CellConfig, resolved)
    limit = config.model.max_tokens
    facts = facts.limited(limit)
    check_length_limit(config)
    check_files(config, facts, artifacts)
    source = ModelSource(
        facts.digest, folder, config.model.architecture, config.model.seed, facts.quantized, max_tokens=limit
    )
    reference = _reference_facts(config, facts, artifacts)
    cell = Cell(config, dict(resolved), facts, source, command, artifacts.resolve(), reference)
    return cell if config.adapter == NO_ADAPTER else _with_adapter(cell)


def _with_adapter(cell: Cell) -> Cell:
    """Return the cell with the adapter that its configuration names; UserError if it is none of this model."""
    model = cell.config.model
    name = {"bundled": model.kind, "hub": str(model.id)}.get(model.kind, "")  # a folder may be named anything
    adapter = inspect_adapter(cell.config.adapter, cell.facts, name, cell.artifacts)
    facts = with_adapter(cell.facts, adapter)
    beside = Adapter(adapter.name, adapter.folder, adapter.digest, is_merged=False)
    source = dataclasses.replace(cell.source, digest=facts.digest, adapter=beside, base_digest=cell.facts.digest)
    return dataclasses.replace(cell, facts=facts, source=source, adapter=adapter)


def _reference_facts(config: CellConfig, facts: models.ModelFacts, artifacts: Path) -> models.ModelFacts | None:
    """Return the facts of `model.reference`; None without it. UserError if its vocabulary differs from the model's."""
    folder = _path(config.model.reference)
    if folder is None:
        return None
    reference = models.inspect_folder(folder, artifacts)
    if reference.vocabulary != facts.vocabulary:
        raise UserError(
            f"model.reference={folder} has a vocabulary of {reference.vocabulary:,}, the model has "
            f"{facts.vocabulary:,}: give the model that the file was converted from"
        )
    return reference.limited(config.model.max_tokens)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser()


def _named(resolved: JsonObject) -> JsonObject:
    """Return the configuration with a custom runtime named after its class, unless it has a name."""
    runtime = resolved.get("runtime")
    if not isinstance(runtime, dict) or runtime.get("name") != "custom":
        return resolved
    target = str((runtime.get("engine") or {}).get("target"))
    return {**resolved, "runtime": {**runtime, "name": target.rpartition(":")[2] or "custom"}}


def _with_rows(resolved: JsonObject, config: CellConfig) -> JsonObject:
    """Return the configuration with a `max_batch` of null replaced by the largest batch that is needed."""
    comparison, completed = config.comparison, dict(resolved)
    rows = [_FEWEST_ROWS, config.batch_size or 0, *(task.rows(options) for task, options in config.benchmark.items())]
    rows += [comparison.batch, comparison.batched or 0] if comparison.enabled else []
    for which in ("runtime", "reference"):
        engine = completed[which]["engine"]
        if "max_batch" in engine and engine["max_batch"] is None:
            completed[which] = {**completed[which], "engine": {**engine, "max_batch": max(rows)}}
    return completed


def _folder(config: CellConfig) -> Path | None:
    model = config.model
    if model.kind == "random":
        return None
    if model.kind == "bundled":
        return BUNDLED / "model"
    if model.kind == "local":
        return Path(str(model.path)).expanduser()
    return _fetch(str(model.id), model.revision)


def _fetch(name: str, revision: str | None) -> Path:
    """Return the local folder of a hub model, downloading missing files; UserError if that fails."""
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises unrelated classes
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"model.id={name} at revision {revision} could not be fetched: {first}; "
            "check the name and the network, or use model=local model.path=DIR"
        ) from error

"""From a checked configuration to a cell: which model, which data, which hardware. Reads files, never torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.cells.checks import check_configuration, check_files
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build, identity_of
from runtime_matrix.experiments.records.code import code_of, targets
from runtime_matrix.experiments.records.schema import Code
from runtime_matrix.runtimes.base import Hardware, ModelSource

_FEWEST_ROWS = 8  # that an engine with fixed bounds is built for


@dataclass(frozen=True)
class Cell:
    """One row of the matrix to be: picklable, since it travels to the child process."""

    config: CellConfig
    resolved: JsonObject  # the configuration as plain data, for the record
    facts: models.ModelFacts
    source: ModelSource
    command: str
    artifacts: Path

    @property
    def label(self) -> str:
        parts = [self.config.runtime.title, self.model_name, self.config.hw.name]
        return "-".join(parts)

    @property
    def model_name(self) -> str:
        model = self.config.model
        if model.kind == "local":
            return Path(str(model.path)).name
        return str(model.id).replace("/", "--") if model.kind == "hub" else model.kind

    @property
    def is_reference(self) -> bool:
        return self.config.runtime == self.config.reference

    @property
    def is_reference_in_own_dtype(self) -> bool:
        return dataclasses.replace(self.config.runtime, dtype=self.config.reference.dtype) == self.config.reference

    @property
    def config_hash(self) -> str:
        later = {name: version for name, version in self.config.benchmark.versions().items() if version > 1}
        text = json.dumps(
            [identity_of(CellConfig, self.resolved), self.facts.digest, *([later] if later else [])], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def code(self) -> Code:
        """The code that the cell runs, see `records.code`: of its runtime and of the reference."""
        return code_of([*targets(self.resolved["runtime"]), *targets(self.resolved["reference"])])

    @property
    def uses_responses(self) -> bool:
        """Is what was answered before, by the same runtime over the same model, not asked again?"""
        mode = self.config.responses.mode
        return mode == "use" or (mode == "keep" and self.config.resume)

    @property
    def threads(self) -> int:
        return self.config.hw.threads or len(os.sched_getaffinity(0))

    def with_token_budget(self, tokens: int) -> Cell:
        """Return the cell with this budget for everything that is batched and not timed by the row."""
        config = dataclasses.replace(
            self.config,
            scoring=dataclasses.replace(self.config.scoring, token_budget=tokens),
            generation=dataclasses.replace(self.config.generation, token_budget=tokens),
            benchmark=self.config.benchmark.with_token_budget(tokens),
        )
        return dataclasses.replace(self, config=config)

    def hardware(self, device: str) -> Hardware:
        return Hardware(device, self.threads, self.artifacts, self.config.hw.facts.compute_capability)


def baselines(cells: Sequence[Cell]) -> set[int]:
    """Return the indexes of the cells that the others of a sweep are compared with, by model and profile.

    It is the reference. Where a sweep has none, as one in bfloat16 has, it is the reference in the cells' own dtype:
    speeds need a baseline that does the same work. The logits are compared with those of the reference in any case.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, cell in enumerate(cells):
        groups.setdefault((cell.facts.digest, cell.config.hw.name), []).append(index)
    found: set[int] = set()
    for group in groups.values():
        exact = [index for index in group if cells[index].is_reference]
        found |= set(exact or [index for index in group if cells[index].is_reference_in_own_dtype][:1])
    return found


def plan(resolved: JsonObject, command: str) -> Cell:
    """Check everything that the configuration and the files alone show; UserError for the first mistake found."""
    shape = resolved.get("model", {}).get("architecture")
    if isinstance(shape, str):
        raise UserError(f"model.architecture={shape}: a shape is chosen with a slash, model/architecture={shape}")
    config: CellConfig = build(CellConfig, _named(resolved))
    resolved = _with_rows(_named(resolved), config)
    config = build(CellConfig, resolved)
    if not config.benchmark.chosen():
        raise UserError("no benchmark is chosen: give at least one, as in 'benchmark=[latency,perplexity]'")
    check_configuration(config)
    artifacts = Path(config.artifacts_dir)
    folder = _folder(config)
    if folder is None:
        facts = models.random_facts(dict(config.model.architecture or {}), config.model.seed)
    else:
        facts = models.inspect_folder(folder, artifacts)
    check_files(config, facts, artifacts)
    source = ModelSource(facts.digest, folder, config.model.architecture, config.model.seed, facts.quantized)
    return Cell(config, dict(resolved), facts, source, command, artifacts.resolve())


def _named(resolved: JsonObject) -> JsonObject:
    """Return the configuration with a runtime of the user's own under its class's name, where no other is given."""
    runtime = resolved.get("runtime")
    if not isinstance(runtime, dict) or runtime.get("name") != "custom":
        return resolved
    target = str((runtime.get("engine") or {}).get("target"))
    return {**resolved, "runtime": {**runtime, "name": target.rpartition(":")[2] or "custom"}}


def _with_rows(resolved: JsonObject, config: CellConfig) -> JsonObject:
    """Return the configuration with engines built for as many rows as are asked for, where `max_batch` is null."""
    comparison, made = config.comparison, dict(resolved)
    asked = [_FEWEST_ROWS, *(task.rows(options) for task, options in config.benchmark.items())]
    asked += [comparison.batch, comparison.batched or 0] if comparison.enabled else []
    for which in ("runtime", "reference"):
        engine = made[which]["engine"]
        if "max_batch" in engine and engine["max_batch"] is None:
            made[which] = {**made[which], "engine": {**engine, "max_batch": max(asked)}}
    return made


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
    """Return the folder that a hub's model is kept in, downloading what is not there yet."""
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises a dozen unrelated kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"model.id={name} at revision {revision} could not be fetched: {first}; "
            "check the name and the network, or use model=local model.path=DIR"
        ) from error

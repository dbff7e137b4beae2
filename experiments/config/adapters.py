"""Inspect a LoRA adapter without torch: its size, its digest, and whether it belongs to the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime_matrix.experiments.config.digests import digest_of, short
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.models import ModelFacts, matrices
from runtime_matrix.runtimes.adapter_files import CONFIG, TENSORS, AdapterFiles, read_adapter

NONE = "none"
BUNDLED = Path(__file__).parents[1] / "bundled" / "adapters"


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter's files state about it, beside the model that it changes."""

    name: str
    folder: Path
    digest: str
    rank: int
    parameters: int
    layers: str  # digest of the names and sizes of the adapted layers: adapters that share it can be exchanged


def bundled_adapters() -> list[str]:
    """Return the names of the adapters that come with the program."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))


def inspect_adapter(value: str, model: ModelFacts, model_name: str, cache: Path | None = None) -> AdapterFacts:
    """Return the facts of `adapter=VALUE`: a folder, or the name of a bundled one.

    UserError for files that are missing, damaged, empty or hostile, and for an adapter of another base: by its name, or
    by the names and shapes of its layers. `model_name`: of a model whose name is known; empty: compare no name.
    """
    folder = _folder(value)
    try:
        files = read_adapter(folder)
    except ValueError as error:
        raise UserError(f"adapter={value}: {error}") from error
    _check_name(value, files, model_name)
    _check_layers(value, files, model)
    return AdapterFacts(
        name=folder.resolve().name,
        folder=folder,
        digest=digest_of([folder / CONFIG, folder / TENSORS], cache),
        rank=files.rank,
        parameters=files.parameters,
        layers=hashlib.sha256(repr(sorted(map(repr, files.modules))).encode()).hexdigest()[:16],
    )


def with_adapter(model: ModelFacts, adapter: AdapterFacts) -> ModelFacts:
    """Return the facts of the model with its adapter: another digest, so that nothing of the base is reused for it."""
    return replace(model, digest=short(f"{model.digest}\n{adapter.digest}"))


def _folder(value: str) -> Path:
    if value in bundled_adapters():
        return BUNDLED / value
    folder = Path(value).expanduser()
    if not folder.exists() and "/" not in value:
        known = did_you_mean(value, [NONE, *bundled_adapters()])
        raise UserError(f"adapter={value} is neither a folder nor a bundled adapter{known}")
    return folder


def _check_name(value: str, files: AdapterFiles, model_name: str) -> None:
    """Compare the last part of the names: the rest is a path or an owner, which may differ for the same model."""
    if not model_name or files.base_name is None:
        return
    theirs, ours = (name.rstrip("/").rpartition("/")[2].lower() for name in (files.base_name, model_name))
    if theirs != ours:
        raise UserError(
            f"adapter={value} is one of the base {files.base_name}, the model is {model_name}: choose that model, or "
            f"correct base_model_name_or_path in its {CONFIG}"
        )


def _shape(known: Mapping[str, list[int]], name: str) -> list[int] | None:
    """Return a tensor's shape; the file's name may lack the name of the whole model, or have one before it."""
    if name in known:
        return known[name]
    return next((known[k] for k in known if k.endswith(f".{name}") or name.endswith(f".{k}")), None)


def _check_layers(value: str, files: AdapterFiles, model: ModelFacts) -> None:
    """Compare names and shapes with those of the model's files, where they have the same names in memory."""
    known = matrices(model)
    if known is None:
        return
    for name, adapted in files.modules.items():
        shape = _shape(known, f"{name}.weight")
        if shape is None:
            raise UserError(f"adapter={value} is one of another base: the model has no {name}")
        sizes = [adapted.outputs, adapted.inputs]
        if shape != (sizes[::-1] if files.is_transposed else sizes):
            raise UserError(
                f"adapter={value} is one of another base: {name} is {adapted.outputs} × {adapted.inputs} there, "
                f"{' × '.join(map(str, shape))} in the model"
            )

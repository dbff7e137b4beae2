"""Load the runtime of a configuration, and put it behind the scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.admission import Limits
from runtime_matrix.experiments.evaluation.continuous import ContinuousBatching
from runtime_matrix.experiments.execution.worker import device, loading
from runtime_matrix.experiments.serving.options import ServeConfig
from runtime_matrix.experiments.serving.served import Render, Served

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@contextmanager
def opened(cell: Cell, config: ServeConfig) -> Iterator[Served]:
    """Yield the loaded model. Raises Unsupported for an engine that takes whole requests, before it is loaded."""
    hardware = cell.hardware(device.resolve(cell.config.hw)[0])
    with (
        loading.make_stepping(cell.config.runtime, "served") as runtime,
        loading.opened_drafter(cell, hardware.device) as drafter,
    ):
        runtime.check(hardware)
        traits = loading.load(cell, runtime, cell.config.runtime, hardware, lambda name: nullcontext())
        text = loading.make_text(cell)
        limit = _smallest(config.max_length, traits.max_length, cell.facts.max_length)
        scheduler = ContinuousBatching(
            runtime,
            traits,
            text.piecewise if text is not None else lambda ids: lambda token: "",
            cell.facts.eos_ids,
            cell.config.generation,
            Limits(config.max_batch, config.max_requests, config.lock),
            drafter,
        )
        render = _chat_template(cell.source.folder, config.chat_template) if text is not None else None
        name = config.model_name or cell.model_name
        try:
            yield Served(name, runtime, traits, text, render, limit, cell.config.scoring, scheduler)
        finally:
            scheduler.close()


def _smallest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _chat_template(folder: Path | None, file: str | None) -> Render | None:
    """Return what renders chats with the tokenizer's template or that of the file; None if there is neither."""
    if folder is None:
        return None
    stored = folder / "tokenizer_config.json"
    has_own = any((folder / name).is_file() for name in _TEMPLATE_FILES) or (
        stored.is_file() and '"chat_template"' in stored.read_text(encoding="utf-8")
    )
    if file is None and not has_own:
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"serve.chat_template={file} cannot be read: {error}") from error

    def render(messages: list[JsonObject]) -> str:
        plain: Any = messages
        return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True))

    return render

"""A judge that runs in the cell's own process: a model under one of the runtimes, loaded once for all its questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.compose import options
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.judges.judge import Asker, Asking, AskingConfig, LocalModel, OnReply, OpenLocal

BUNDLED_JUDGE = Path(__file__).parents[1] / "bundled" / "judge"
_FILES = ("config.json", "tokenizer.json")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig(AskingConfig):
    """Options of `runtime`."""

    runtime: str
    model: str


class LocalRuntime(Asking[RuntimeConfig]):
    """Continues the prompt with a model of this process."""

    name = "runtime"
    about = "A model in this process continues a prompt, under one of the runtimes."
    Config = RuntimeConfig

    @override
    def check(self, config: RuntimeConfig) -> None:
        super().check(config)
        known = options("runtime")
        if config.runtime not in known:
            raise UserError(f"judge.runtime={config.runtime} is not a runtime{did_you_mean(config.runtime, known)}")
        folder = _folder(config)
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"judge.model={config.model} has no {missing[0]}: give the folder of a model in Hugging Face's layout, "
                "or bundled"
            )

    @override
    @contextmanager
    def opened(self, config: RuntimeConfig, open_local: OpenLocal) -> Iterator[Asker]:
        with open_local(config.runtime, str(_folder(config))) as model:
            yield _Local(model, config)


JUDGE = LocalRuntime()


class _Local:
    """The asker of a model in this process."""

    def __init__(self, model: LocalModel, config: RuntimeConfig):
        self._model, self._config = model, config
        self._calls = 0

    @property
    def identity(self) -> JsonObject:
        return {"model": self._model.identity, "max_new_tokens": self._config.max_new_tokens, "greedy": True}

    def ask(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        """Continue all prompts, batched as the texts of a benchmark are."""
        self._calls += len(prompts)
        self._model.generate(prompts, self._config.max_new_tokens, on_reply)

    def counters(self) -> Mapping[str, int]:
        return {"calls": self._calls, "retries": 0}


def _folder(config: RuntimeConfig) -> Path:
    return BUNDLED_JUDGE if config.model == "bundled" else Path(config.model).expanduser()

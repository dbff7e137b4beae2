"""The options of the server, from `conf/serve.yaml` and the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.compose import CONF, read_option
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build, least, unknown_key

PREFIX = "serve."


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a runtime is served; `conf/serve.yaml` says what each option means."""

    host: str
    port: int = least(0, most=65535)
    model_name: str | None
    max_batch: int = least(1)
    max_requests: int = least(1)
    max_length: int | None = least(2)
    lock: bool
    max_body_bytes: int = least(1)
    key_variable: str
    chat_template: str | None
    grace_s: float = least(0)

    @property
    def api_key(self) -> str | None:
        """The key that requests must carry; None: none is asked for."""
        return os.environ.get(self.key_variable) or None

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def read_options(words: Sequence[str]) -> ServeConfig:
    """Return the options with the overrides `serve.KEY=VALUE`; UserError for a mistake."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    values: JsonObject = read_option(CONF / "serve.yaml")
    for word in words:
        key, equals, _ = word.partition("=")
        name = key.removeprefix(PREFIX)
        if not equals:
            raise UserError(f"{word} has no value: write {key}=VALUE")
        if name not in values:
            raise UserError(unknown_key(key, values))
        try:
            values[name] = OmegaConf.to_container(OmegaConf.from_dotlist([word.removeprefix(PREFIX)]))[name]  # type: ignore[index, call-overload]
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"{word}: {str(error).splitlines()[0]}") from error
    config: ServeConfig = build(ServeConfig, values, "serve")
    return config

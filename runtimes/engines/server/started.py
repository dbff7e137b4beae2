"""Engines whose server is started here: the process is ended when the runtime is closed, or cannot be loaded."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, ReadOnlyJson, Traits, Unsupported
from runtime_matrix.runtimes.engines.server.child import ServerProcess, free_port, is_taken
from runtime_matrix.runtimes.engines.server.openai_server import OpenAIServer

_ALIAS = "runtime-matrix"  # begins the name of the served model
_PORTS = 3  # another process may take a free port before the server does
_SCORED = 2  # tokens beside a row's that scoring sends or generates: the last one, which is never run, and one more


def reserved_tokens(asked: int | None, own: int | None) -> int | None:
    """Return the tokens that a server reserves per sequence: those `asked` for, at most the model's `own` length.

    None if both are unknown.
    """
    if asked is None:
        return own
    return asked + _SCORED if own is None else min(asked + _SCORED, own)


class StartedServer(OpenAIServer):
    """Base class: `prepare` makes what the server reads, `command` starts it. The client's options are the parent's."""

    is_remote: ClassVar[bool] = False  # a child process, whose CPU time and memory are counted

    def __init__(self, dtype: str, start_s: float, client: ReadOnlyJson):
        super().__init__(dtype, **client)
        self._alias = f"{_ALIAS}-{secrets.token_hex(4)}"  # another server on the port would have another
        self._start_s = start_s
        self._process: ServerProcess | None = None

    @abstractmethod
    def prepare(self, model: ModelSource, hw: Hardware, phase: Phase) -> Path:
        """Return the file or folder that the server loads. Raises Unsupported."""

    @abstractmethod
    def command(self, path: Path, name: str, port: int, hw: Hardware) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the words and the environment variables that start the server, which serves the model as `name`."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        path = self.prepare(model, hw, phase)
        try:
            with phase("session"):
                url = self._started(path, hw)
            return self._connect((url,), self.served_name(self._alias, model), model, phase)
        except BaseException:
            self.close()
            raise

    def served_name(self, alias: str, model: ModelSource) -> str:
        """Return the name under which the started server, which serves its model as `alias`, has this one."""
        return alias

    @property
    def url(self) -> str:
        """The address of the running server."""
        assert self._process is not None, "call load first"
        return self._process.url

    @override
    def close(self) -> None:
        super().close()
        if self._process is not None:
            self._process.close()

    def _started(self, path: Path, hw: Hardware) -> str:
        for attempt in range(1, _PORTS + 1):
            port = free_port()
            words, variables = self.command(path, self._alias, port, hw)
            self._process = ServerProcess(words, port, hw.artifacts.parent / "servers", variables)
            try:
                self._process.wait_until_ready(self._start_s)
                return self._process.url
            except Unsupported:
                self._process.close()
                if attempt == _PORTS or not is_taken(port):
                    raise
        raise AssertionError("unreachable")

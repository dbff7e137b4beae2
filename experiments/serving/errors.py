"""Refusals of requests, in the form of the OpenAI API."""

from __future__ import annotations

from runtime_matrix.experiments.config.plain_json import JsonObject

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A refusal with an HTTP status. The message is one line; `param` is the field that is wrong."""

    def __init__(self, message: str, status: int = 400, param: str | None = None):
        super().__init__(message)
        self.status, self.param = status, param

    def body(self) -> JsonObject:
        """Return the reply."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.status}}

"""Validation of the option `scheme` of packages with several quantization schemes."""

from __future__ import annotations

from runtime_matrix.runtimes.base import Unsupported


def check_scheme(scheme: str, known: tuple[str, ...]) -> str:
    """Return `scheme`. Raises Unsupported if it is not in `known`."""
    if scheme not in known:
        raise Unsupported(f"runtime.weights.scheme={scheme} is unknown; known: {', '.join(known)}")
    return scheme

"""Schemes of packages that pack weights in several ways."""

from __future__ import annotations

from runtime_matrix.runtimes.base import Unsupported


def check_scheme(scheme: str, known: tuple[str, ...]) -> str:
    """Return the scheme. Unsupported names the known ones where it is none of them."""
    if scheme not in known:
        raise Unsupported(f"runtime.weights.scheme={scheme} is unknown; known: {', '.join(known)}")
    return scheme

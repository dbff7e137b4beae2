"""What a server may ask for by Retry-After."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from runtime_matrix.runtimes.http_calls import _retry_after_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("soon", None), ("nan", None), ("inf", None), ("", None)],
)
def test_seconds(header: str | None, seconds: float | None) -> None:
    assert _retry_after_s(header) == seconds


def test_a_date() -> None:
    seconds = _retry_after_s(formatdate(time.time() + 30, usegmt=True))
    assert seconds is not None
    assert 25 < seconds <= 30
    assert _retry_after_s(formatdate(time.time() - 30, usegmt=True)) == 0.0

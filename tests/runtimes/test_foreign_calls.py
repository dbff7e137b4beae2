"""Our calls of other packages fit their signatures: of what is installed, and of what a rented GPU came with."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from tests.runtimes.foreign_calls import SIGNATURES, Call, attributes, calls, found, misfit, parameters

CALLS = list(calls())
RECORDED: Any = json.loads(SIGNATURES.read_text())


def is_here(target: str) -> bool:
    return importlib.util.find_spec(target.partition(".")[0]) is not None


def test_calls_fit_what_is_installed() -> None:
    wrong, checked = [], 0
    for call in CALLS:
        if not is_here(call.target):
            continue
        try:
            known = parameters(call.target)
        except AttributeError as error:
            wrong.append(f"{call.where}: {error}")
            continue
        if known is not None:
            checked += 1
            why = misfit(call, known)
            wrong += [f"{call.where}: {call.target}: {why}"] if why else []
    assert wrong == []
    assert checked > 60


def test_calls_fit_the_versions_of_a_rented_gpu() -> None:
    signatures = RECORDED["signatures"]
    wrong = [
        f"{call.where}: {call.target}: {why}"
        for call in CALLS
        if call.target in signatures and (why := misfit(call, signatures[call.target]))
    ]
    assert wrong == []
    assert RECORDED["versions"]["torch"].startswith("2.11")
    assert sum(call.target in signatures for call in CALLS) > 60


@pytest.mark.skipif(not is_here("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_names_of_tensorrt_are_there() -> None:
    absent = []
    for where, target in attributes():
        try:
            found(target)
        except AttributeError as error:
            absent.append(f"{where}: {error}")
    assert absent == []


def test_a_call_that_does_not_fit_is_seen() -> None:
    known: Any = [["graph", "", False], ["size", "", True], ["fast", "=", True]]
    assert misfit(Call("", "", 1, ("fast",), False), known) is None
    assert misfit(Call("", "", 0, (), True), known) is None
    assert misfit(Call("", "", 3, (), False), known) == "too many positional arguments"
    assert misfit(Call("", "", 1, ("slow",), False), known) == "got an unexpected keyword argument 'slow'"
    assert misfit(Call("", "", 0, (), False), known) == "missing a required argument: 'graph'"

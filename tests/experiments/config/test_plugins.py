"""What packages register, and what happens if two register one name or nothing can be read."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError


@pytest.fixture(autouse=True)
def _without_caches() -> Iterator[None]:
    for cached in (plugins.registered, plugins.preset_folders):
        cached.cache_clear()
    yield
    for cached in (plugins.registered, plugins.preset_folders):
        cached.cache_clear()


def register(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    entry_points = [EntryPoint(name, value, "a group") for name, value in points]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entry_points)


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("recall", "first:TASK"), ("recall", "second:TASK"))
    with pytest.raises(UserError, match="first:TASK and second:TASK are both called recall; uninstall one"):
        plugins.registered(plugins.TASKS)


def test_a_package_that_is_found_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("recall", "first:TASK"), ("recall", "first:TASK"))
    assert list(plugins.registered(plugins.TASKS)) == ["recall"]


def test_presets_that_cannot_be_read_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "good_presets" / "runtime").mkdir(parents=True)
    points = (("bad", "broken_package.conf"), ("gone", "no_such_presets"), ("good", "good_presets"))
    register(monkeypatch, *points)
    assert plugins.preset_folders() == (tmp_path / "good_presets",)
    assert capsys.readouterr().err.splitlines() == [
        "the presets bad of broken_package.conf are left out: RuntimeError: no licence",
        "the presets gone of no_such_presets are left out: there is no such folder",
    ]

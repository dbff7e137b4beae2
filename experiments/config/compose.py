"""Hydra's side of things: a composed configuration as plain data, and its errors as one line each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.plugins import preset_folders
from runtime_matrix.experiments.config.validate import unknown_key

CONF = Path(__file__).parents[2] / "conf"
_LISTS = ("benchmark", "monitoring")  # groups of which any number of presets are chosen
# Mappings that take keys of the user's own.
_OPEN = ("model.architecture.", "runtime.engine.", "runtime.weights.", "runtime.placement.", "hydra.", "hydra/")


def places() -> list[Path]:
    """Return the folders in which Hydra looks for presets: ours, then those of packages."""
    return [CONF, *preset_folders()]


def options(group: str) -> list[str]:
    """Return the names of a group's presets."""
    return sorted({path.stem for place in places() for path in (place / group).glob("*.yaml")})


@cache
def search_packages() -> None:
    """Let Hydra find the presets of packages as well. Once per process."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class Packages(SearchPathPlugin):
        @override
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in preset_folders():
                search_path.append("runtime-matrix", f"file://{folder}")

    if preset_folders():
        Plugins.instance().register(Packages)


def compose(overrides: Sequence[str]) -> JsonObject:
    """Return the configuration that `python -m experiments.run` would use with these overrides."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    search_packages()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return plain(hydra_compose("config", overrides=list(overrides)), overrides)
        except Exception as error:
            raise explain(error) from error


def compose_option(group: str, option: str, words: Sequence[str] = ()) -> JsonObject:
    """Return an option of a group with the defaults that it names and with overrides, and nothing of other groups."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    search_packages()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            with warnings.catch_warnings():
                # Of an option without `_self_`, which needs none where it is composed below another one.
                warnings.simplefilter("ignore", UserWarning)
                composed = hydra_compose(f"{group}/{option}", overrides=list(words))
            found: JsonObject = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
        except Exception as error:
            raise explain(error) from error
    return _without_hints(found[group])


def read_option(path: Path) -> JsonObject:
    """Return what an option's file says itself, without its defaults. UserError where it cannot be read."""
    from omegaconf import OmegaConf

    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML's own errors are of a dozen kinds
        raise UserError(f"{path} cannot be read: {re.sub(chr(10) + ' *', ' ', str(error))}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must be a mapping: see conf/runtime/eager.yaml")
    return found


def _without_hints(runtime: JsonObject) -> JsonObject:
    """Return a runtime without the hints of its preset, which `advice/hints.py` reads and no cell is made of."""
    return {key: value for key, value in runtime.items() if key != "hints"}


def show(configs: Sequence[Any], is_resolved: bool) -> None:
    """Print configurations as YAML, one document each."""
    from omegaconf import OmegaConf

    print("---\n".join(OmegaConf.to_yaml(OmegaConf.create(config), resolve=is_resolved) for config in configs), end="")


def compose_gate(name: str, words: Sequence[str]) -> JsonObject:
    """Return a gate, an option of `conf/gate` or any YAML file, with `gate.KEY=VALUE` put in and `~gate.KEY` out."""
    from omegaconf import OmegaConf

    named = [place / "gate" / f"{name}.yaml" for place in places()]
    path = Path(name) if name.endswith((".yaml", ".yml")) else next((one for one in named if one.is_file()), named[0])
    if not path.is_file():
        raise UserError(f"gate={name} is not an option{did_you_mean(name, options('gate'))}, or a YAML file")
    try:
        given = [word.lstrip("+").removeprefix("gate.") for word in words if not word.startswith("~")]
        made = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(given))
        resolved: Any = OmegaConf.to_container(made, resolve=True)
    except Exception as error:  # YAML's own errors are of a dozen kinds
        raise UserError(f"gate={name} cannot be read: {re.sub(chr(10) + ' *', ' ', str(error))}") from error
    if not isinstance(resolved, dict):
        raise UserError(f"gate={name} must be a mapping: see conf/gate/ci.yaml")
    for word in words:
        if word.startswith("~"):
            _take_out(resolved, word)
    return resolved


def _take_out(gate: JsonObject, word: str) -> None:
    """Remove the limit that `~gate.KEY` names; UserError where there is none."""
    *path, last = word.lstrip("~").removeprefix("gate.").split(".")
    place: Any = gate
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    if not isinstance(place, dict | list) or last not in place:
        known = gate if place is None else place
        raise UserError(f"{word}: the gate has no such limit{did_you_mean(last, map(str, known))}")
    if isinstance(place, list):
        place.remove(last)
    elif isinstance(place[last], dict | list):
        place[last] = type(place[last])()  # all limits of a kind
    else:
        del place[last]


def plain(config: Any, overrides: Iterable[str]) -> JsonObject:
    """Return the resolved configuration as plain data; UserError for keys that a `+` made up or values left open."""
    from omegaconf import OmegaConf

    for word in overrides:
        _check_override(word)
        name = word.lstrip("+~").split("=", 1)[0]
        if word.startswith("+") and not name.startswith(_OPEN):
            raise UserError(unknown_key(name, set(_keys(config)) - {name}))
    try:
        resolved: JsonObject = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore
    except Exception as error:
        raise explain(error) from error
    resolved.pop("experiment", None)
    resolved |= {key: _without_hints(resolved[key]) for key in ("runtime", "reference") if key in resolved}
    for group in _LISTS:
        resolved.setdefault(group, {})  # with none chosen, the group leaves nothing behind
    return resolved


def _check_override(override: str) -> None:
    key, _, value = override.lstrip("+").partition("=")
    if key in _LISTS:
        names = [name.strip() for name in value.strip("[]'\" ").split(",")]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{key}={value} names {twice} twice")


def explain(error: Exception) -> UserError:
    """Return Hydra's or OmegaConf's exception as one line that says what to do; other exceptions are raised again."""
    from hydra.errors import HydraException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    if isinstance(error, UserError):
        return error
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or str(error).split(":")[-1].strip().splitlines()[0]
        return UserError(f"{key} is missing: set {key}=…")
    if isinstance(error, ValueError) and "must be a string or a list" in str(error):
        return UserError("a group cannot be null: leave it out, or give an option, as in 'benchmark=[latency]'")
    if not isinstance(error, HydraException | OmegaConfBaseException):
        raise error
    said = re.sub(r"\s+", " ", str(error)).strip()
    if "Ambiguous value" in said:
        word = said.partition("'")[2].partition("'")[0]
        return UserError(f"{word}: several values are a sweep: add -m, as in -m {word}")
    known = getattr(error, "options", None)
    wanted = getattr(error, "missing_cfg_file", None)
    if wanted is not None:
        group, _, option = str(wanted).rpartition("/")
        known = options(group) if known is None else known
        return UserError(f"{group}={option} is not an option{did_you_mean(option, map(str, known))}")
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        known = list(cause.parent_node) if _is_mapping(cause.parent_node) else []
        if "not in struct" in str(cause) or "not in" in str(cause):
            return UserError(unknown_key(str(cause.full_key), map(str, known)) if known else str(cause))
    return UserError(said.partition(" full_key:")[0])


def _is_mapping(node: Any) -> bool:
    from omegaconf import DictConfig

    return isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()


def _keys(config: Any, prefix: str = "") -> list[str]:
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(config, resolve=False) if not isinstance(config, dict) else config
    found: list[str] = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{key}.")
    return found

"""Compose configurations with Hydra into plain data, and turn its errors into one line each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject, text_keys
from runtime_matrix.experiments.config.plugins import preset_folders
from runtime_matrix.experiments.config.recommended import recommended_words, set_keys
from runtime_matrix.experiments.config.renamed import new_preset
from runtime_matrix.experiments.config.validate import unknown_key

CONF = Path(__file__).parents[2] / "conf"
CLAIMS = "claims"  # a folder of data beside the groups
_LISTS = ("benchmark", "monitoring")  # groups from which several presets can be chosen
# Mappings that accept any key.
_OPEN = (
    *("model.architecture.", "runtime.engine.", "runtime.weights.", "runtime.placement."),
    *("launcher.sbatch.", "launcher.resources.", "hydra.", "hydra/"),
)


def places() -> list[Path]:
    """Return the folders of presets in search order: the built-in one, then those of installed packages."""
    return [CONF, *preset_folders()]


def options(group: str) -> list[str]:
    """Return the names of a group's presets, sorted and without duplicates."""
    return sorted({path.stem for folder in places() for path in (folder / group).glob("*.yaml")})


@cache
def search_packages() -> None:
    """Add the presets of installed packages to Hydra's search path, once per process."""
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
    """Return the configuration of `python -m experiments.run` with these overrides; UserError for a mistake."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    search_packages()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = plain(hydra_compose("config", overrides=list(overrides)), overrides)
            if composed["hw"].get("apply") is not True:
                return composed
            words = recommended_words(composed, overrides, _experiment_keys(overrides))
            applied = plain(hydra_compose("config", overrides=[*overrides, *words]), overrides)
            return {**applied, "hw": {**applied["hw"], "applied": words}}
        except Exception as error:
            raise explain(error) from error


def _experiment_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that the chosen experiment sets: they are the user's own settings too."""
    name = next((word.partition("=")[2] for word in overrides if word.lstrip("+").startswith("experiment=")), None)
    searched = [word.partition("=")[2].strip("[]") for word in overrides if word.startswith("hydra.searchpath=")]
    folders = [Path(part.strip("'").removeprefix("file://")) for text in searched for part in text.split(",")]
    paths = [folder / "experiment" / f"{name}.yaml" for folder in (*folders, *places())]
    path = next((path for path in paths if path.is_file()), None)
    return set_keys(read_option(path)) if path is not None else []


def compose_option(group: str, option: str, words: Sequence[str] = ()) -> JsonObject:
    """Return a preset with its defaults and the overrides `words`, without other groups; UserError for a mistake."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    search_packages()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            with warnings.catch_warnings():
                # Hydra warns of presets without `_self_`, which need none when composed below another preset.
                warnings.simplefilter("ignore", UserWarning)
                composed = hydra_compose(f"{group}/{option}", overrides=list(words))
            config: JsonObject = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
        except Exception as error:
            raise explain(error) from error
    return _without_hints(config[group])


def read_option(path: Path) -> JsonObject:
    """Return the content of a preset file, without its defaults; UserError for an unreadable file."""
    from omegaconf import OmegaConf

    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML's errors have no common class
        raise UserError(f"{path} cannot be read: {re.sub(chr(10) + ' *', ' ', str(error))}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a mapping: see conf/runtime/eager.yaml")
    return content


def _without_hints(runtime: JsonObject) -> JsonObject:
    """Return a runtime without the hints of its preset, which only `advice/hints.py` reads."""
    return {key: value for key, value in runtime.items() if key != "hints"}


def show(configs: Sequence[Any], is_resolved: bool) -> None:
    """Print configurations as YAML, one document each."""
    from omegaconf import OmegaConf

    print("---\n".join(OmegaConf.to_yaml(OmegaConf.create(config), resolve=is_resolved) for config in configs), end="")


def compose_gate(name: str, words: Sequence[str]) -> JsonObject:
    """Return a gate from `conf/gate` or any YAML file, with `gate.KEY=VALUE` set and `~gate.KEY` removed.

    UserError for an unknown gate, an unreadable file or a limit that does not exist.
    """
    from omegaconf import OmegaConf

    presets = [folder / "gate" / f"{name}.yaml" for folder in places()]
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        path = next((preset for preset in presets if preset.is_file()), presets[0])
    if not path.is_file():
        raise UserError(f"gate={name} is not an option{did_you_mean(name, options('gate'))}, or a YAML file")
    try:
        given = [word.lstrip("+").removeprefix("gate.") for word in words if not word.startswith("~")]
        merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(given))
        resolved: Any = OmegaConf.to_container(merged, resolve=True)
    except Exception as error:  # YAML's errors have no common class
        raise UserError(f"gate={name} cannot be read: {re.sub(chr(10) + ' *', ' ', str(error))}") from error
    if not isinstance(resolved, dict):
        raise UserError(f"gate={name} must be a mapping: see conf/gate/ci.yaml")
    for word in words:
        if word.startswith("~"):
            _remove_limit(resolved, word)
    return resolved


def _remove_limit(gate: JsonObject, word: str) -> None:
    """Remove the limit that `~gate.KEY` names; UserError if there is none."""
    *path, last = word.lstrip("~").removeprefix("gate.").split(".")
    limits: Any = gate
    for key in path:
        limits = limits.get(key) if isinstance(limits, dict) else None
    if not isinstance(limits, dict | list) or last not in limits:
        known = gate if limits is None else limits
        raise UserError(f"{word}: the gate has no such limit{did_you_mean(last, map(str, known))}")
    if isinstance(limits, list):
        limits.remove(last)
    elif isinstance(limits[last], dict | list):
        limits[last] = type(limits[last])()  # all limits of a kind
    else:
        del limits[last]


def plain(config: Any, overrides: Iterable[str]) -> JsonObject:
    """Return the resolved configuration as plain data; UserError for unknown keys added with `+` and missing values."""
    from omegaconf import OmegaConf

    for word in overrides:
        _check_override(word)
        name = word.lstrip("+~").split("=", 1)[0]
        if word.startswith("+") and not name.startswith(_OPEN):
            raise UserError(unknown_key(name, set(_keys(config)) - {name}))
    try:
        resolved: JsonObject = text_keys(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except Exception as error:
        raise explain(error) from error
    resolved.pop("experiment", None)
    if not isinstance(reference := resolved.get("reference", {}), Mapping):
        raise UserError(f"reference={reference}: the reference is a runtime: runtime@reference={reference}")
    resolved |= {key: _without_hints(resolved[key]) for key in ("runtime", "reference") if key in resolved}
    for group in _LISTS:
        resolved.setdefault(group, {})  # a group without a chosen preset is absent
    return resolved


def _check_override(override: str) -> None:
    key, _, value = override.lstrip("+").partition("=")
    if key in _LISTS:
        names = [name.strip() for name in value.strip("[]'\" ").split(",")]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise UserError(f"{key}={value} names {duplicate} twice")


def explain(error: Exception) -> UserError:
    """Return an exception of Hydra or OmegaConf as one line with the remedy; raise any other exception again."""
    from hydra.errors import HydraException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    if isinstance(error, UserError):
        return error
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or str(error).split(":")[-1].strip().splitlines()[0]
        return UserError(f"{key} is missing: set {key}=…")
    if isinstance(error, ValueError) and "must be a string or a list" in str(error):
        # Hydra does not say which group.
        return UserError(
            "the value of a group is the name of an option, or a list of names, as in 'benchmark=[latency]'; "
            "a group cannot be null or a number"
        )
    if not isinstance(error, HydraException | OmegaConfBaseException):
        raise error
    message = re.sub(r"\s+", " ", str(error)).strip()
    if "Ambiguous value" in message:
        word = message.partition("'")[2].partition("'")[0]
        return UserError(f"{word}: several values are a sweep: add -m, as in -m {word}")
    known = getattr(error, "options", None)
    missing = getattr(error, "missing_cfg_file", None)
    if missing is not None:
        group, _, option = str(missing).rpartition("/")
        current = new_preset(f"{group}={option}")
        if current is not None:
            return UserError(f"{group}={option} was renamed to {current}, because it quantizes activations too")
        known = options(group) if known is None else known
        return UserError(f"{group}={option} is not an option{did_you_mean(option, map(str, known))}")
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key is not None:
        known = list(cause.parent_node) if _is_mapping(cause.parent_node) else []
        if "not in struct" in str(cause) or "not in" in str(cause):
            return UserError(unknown_key(str(cause.full_key), map(str, known)) if known else str(cause))
    return UserError(message.partition(" full_key:")[0])


def _is_mapping(node: Any) -> bool:
    from omegaconf import DictConfig

    return isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()


def _keys(config: Any, prefix: str = "") -> list[str]:
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(config, resolve=False) if not isinstance(config, dict) else config
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys

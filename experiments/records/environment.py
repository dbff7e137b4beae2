"""The environment of a measurement: machine, package versions, commit and load; not its configuration."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from msgspec import UNSET

from runtime_matrix.experiments.config.compose import places
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.measurement.cgroup import cpu_limit, memory_limit_bytes
from runtime_matrix.experiments.measurement.machine import governor
from runtime_matrix.experiments.records.code import declared_texts
from runtime_matrix.experiments.records.processor import processor
from runtime_matrix.experiments.records.schema import Environment, to_plain

_PACKAGES = ("torch", "transformers", "numpy", "hydra-core", "pytest-benchmark")  # used by every cell
_PRESETS = ("runtime", "runtime/weights", "runtime/placement")  # groups whose presets have a `target`
_TARGET = re.compile(r"\btarget: *[\"']?([A-Za-z_][\w.]*:\w+)")
_GPU_NAMES = ("index", "uuid")  # identify a card among identical ones
_GPU_FACTS = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "power.limit")
VISIBLE = "CUDA_VISIBLE_DEVICES"
_MEMORY_STEP = 8 * 2**30
_SOURCE = Path(__file__).resolve().parents[2]  # in a checkout, the folder of the git repository
_CODE = ("runtimes", "experiments", "conf")
# Facts that change from minute to minute, or that distinguish identical machines.
_PASSING = ("load_average", "hostname")
# Facts that decide the speed of a machine: figures are comparable only if all of them are equal.
_MACHINE = (
    *("processor", "cores", "cpu", "instruction_sets", "instruction_limits"),
    *("cpu_limit", "memory_limit_bytes", "governor"),
)


def environment() -> Environment:
    """Return the facts of this machine and installation. Imports no heavy package."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        hostname=platform.node(),
        **asdict(processor()),
        cores=len(os.sched_getaffinity(0)),
        cpu_limit=cpu_limit(),
        governor=governor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        memory_limit_bytes=memory_limit_bytes(),
        gpus=gpus(),
        versions={name: _version(name) for name in packages()},
        commit=commit(),
        is_dirty=_is_dirty(),
        load_average=list(os.getloadavg()),
    )


@cache
def packages() -> tuple[str, ...]:
    """Return the distributions whose versions may affect figures: ours and those that classes of presets declare.

    All presets count, whichever cell runs, so that the cells of a sweep share one environment.
    """
    files = (path for place in places() for group in _PRESETS for path in sorted((place / group).glob("*.yaml")))
    targets = {target for path in files for target in _TARGET.findall(path.read_text(encoding="utf-8"))}
    declared = {name for target in targets for name in declared_texts(target, "distributions")}
    return (*_PACKAGES, *sorted(declared - set(_PACKAGES)))


def commit() -> str | None:
    """Return the commit of the checkout; None for an installed wheel or without git."""
    return _git("rev-parse", "HEAD")


def gpus() -> list[dict[str, str]]:
    """Return the facts of each GPU that this process may use, with the words and units of nvidia-smi.

    Empty if nvidia-smi is not installed.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    names = (*_GPU_NAMES, *_GPU_FACTS)
    query = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    parts = [[part.strip() for part in line.split(",")] for line in lines]
    # Other lines are messages, for example that there are no devices.
    cards = [dict(zip(names, values, strict=True)) for values in parts if len(values) == len(names)]
    return [{name: card[name] for name in _GPU_FACTS} for card in visible(cards, os.environ.get(VISIBLE))]


def visible(cards: Sequence[dict[str, str]], chosen: str | None) -> list[dict[str, str]]:
    """Return the cards listed in CUDA_VISIBLE_DEVICES, in its order, by index or by the start of their UUID.

    As in CUDA, the list ends at the first unknown name. `chosen` None means all cards.
    """
    if chosen is None:
        return list(cards)
    selected = []
    for name in filter(None, (part.strip() for part in chosen.split(","))):
        card = next((card for card in cards if name == card["index"] or card["uuid"].startswith(name)), None)
        if card is None:
            break
        selected.append(card)
    return selected


def gpu_memory_bytes(gpu: Mapping[str, str]) -> float | None:
    """Return a card's memory in bytes; None if the driver does not report it, as for some MIG slices."""
    mebibytes = gpu["memory.total"].split()[0] if gpu.get("memory.total") else ""
    return float(mebibytes) * 2**20 if mebibytes.replace(".", "", 1).isdigit() else None


def environment_hash(environment: Environment) -> str:
    """Return a digest of the lasting facts of the environment."""
    lasting = {key: value for key, value in to_plain(environment).items() if key not in _PASSING}
    lasting["memory_bytes"] = memory_class(environment)
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


def memory_class(environment: Environment) -> int | None:
    """Return the memory in units of 8 GiB: the memory of a virtual machine varies a little between starts."""
    size = environment.memory_bytes
    return None if size is None else round(size / _MEMORY_STEP)


def machine_facts(environment: Environment) -> JsonObject:
    """Return the facts that describe the machine: processor, instruction sets, limits and GPUs."""
    facts = {key: value for key in _MACHINE if (value := getattr(environment, key)) is not UNSET}
    names = [gpu["name"] for gpu in environment.gpus]
    return facts | ({"gpus": names} if names else {})


def machine_kind(environment: Environment) -> str:
    """Return the processor's name and a digest of what machines of one kind have in common."""
    digest = hashlib.sha256(json.dumps(machine_facts(environment), sort_keys=True).encode()).hexdigest()[:8]
    return f"{environment.processor or 'unknown processor'} {digest}"


def machine_differences(there: JsonObject, here: Environment) -> list[str]:
    """Return the differences between the machine with the facts `there` and this one, one text per fact.

    Facts that `there` does not have are left out.
    """
    other = machine_facts(here)
    return [
        f"{key.replace('_', ' ')} {_shown(there[key])}, here {_shown(other.get(key))}"
        for key in (*_MACHINE, "gpus")
        if key in there and there[key] != other.get(key)
    ]


def _shown(fact: object) -> str:
    if isinstance(fact, Mapping):
        return " ".join(f"{key}={value}" for key, value in fact.items()) or "none"
    if isinstance(fact, list):
        return " ".join(map(str, fact)) or "none"
    return "unknown" if fact is None else str(fact)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_dirty() -> bool | None:
    """Return whether the sources differ from the commit; untracked files count only in folders of code.

    False for an installed wheel; None if git is missing or refuses, such as for the folder of another user.
    """
    if not _is_checkout():
        return False
    changed = _git("status", "--porcelain", "--untracked-files=no")
    untracked = _git("status", "--porcelain", "--untracked-files=all", "--", *_CODE)
    return None if changed is None or untracked is None else bool(changed or untracked)


def _is_checkout() -> bool:
    return (_SOURCE / ".git").exists()


def _git(*arguments: str) -> str | None:
    if not _is_checkout() or shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "-C", str(_SOURCE), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None

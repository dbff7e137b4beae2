"""Limits of this process's control group, and how often it was throttled. Supports cgroup versions 1 and 2."""

from __future__ import annotations

from pathlib import Path

_USEC, _NSEC = 1e-6, 1e-9
_UNLIMITED_BYTES = 1 << 60  # version 1 writes a number near 2^63 where there is no limit


def cpu_limit(root: Path = Path("/")) -> float | None:
    """Return the group's limit in CPUs; None without a known limit."""
    parts = (_text(_file("cpu.max", "", root)) or "").split()
    if not parts:
        quota, period = (_text(_file(f"cpu.cfs_{name}_us", "cpu", root)) for name in ("quota", "period"))
        parts = [quota or "-1", period or "0"]
    if len(parts) != 2 or not parts[0].isdigit() or not parts[1].isdigit() or int(parts[1]) == 0:
        return None  # "max", and -1 in version 1
    return int(parts[0]) / int(parts[1])


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the group's memory limit; None without a known limit."""
    text = _text(_file("memory.max", "", root)) or _text(_file("memory.limit_in_bytes", "memory", root)) or ""
    return int(text) if text.isdigit() and int(text) < _UNLIMITED_BYTES else None


def throttled(root: Path = Path("/")) -> tuple[int | None, float | None]:
    """Return the number of throttled periods so far and the seconds waited; None values if unknown."""
    text = _text(_file("cpu.stat", "", root)) or ""
    if "nr_throttled" not in text:
        text = _text(_file("cpu.stat", "cpu", root)) or ""
    facts = {parts[0]: int(parts[1]) for parts in map(str.split, text.splitlines()) if len(parts) == 2}
    if "nr_throttled" not in facts:
        return None, None
    waited_s = facts["throttled_usec"] * _USEC if "throttled_usec" in facts else facts.get("throttled_time", 0) * _NSEC
    return facts["nr_throttled"], waited_s


def _file(name: str, controller: str, root: Path) -> Path | None:
    """Return the file of this process's group, or of its nearest ancestor that has it.

    `controller` is a controller of version 1, or "" for version 2.
    """
    base, own = root / "sys/fs/cgroup" / controller, ""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = path.strip("/")
    for folder in (base / own, *(base / own).parents):
        if (folder / name).is_file():
            return folder / name
        if folder == base:
            return None
    return None


def _text(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None

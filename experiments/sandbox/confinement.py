"""Applies the layers to the process that will run programs, in the order in which they do not hinder each other.

Runs in the clean interpreter. Standard library only. rlimits and seccomp are left to the caller, since they differ
between what runs programs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import layers

if TYPE_CHECKING:
    from runtime_matrix.experiments.sandbox.messages import Setup


def confine(setup: Setup, must_read: str) -> list[str]:
    """Apply the layers that the host allows; return the names of the active ones.

    `must_read`: a file that must stay readable without root.
    """
    level: list[str] = []
    if "unprivileged" not in setup["without"] and layers.become_nobody(must_read):
        level.append("unprivileged")
    if "namespaces" not in setup["without"]:
        level += _namespaces(setup)
    if "landlock" not in setup["without"]:
        writable = [setup["scratch"]] if "scratch" in level else []
        with contextlib.suppress(OSError):
            layers.no_new_privileges()
            layers.landlock(setup["readable"], setup["listable"], writable + setup["writable"], setup["executable"])
            level.append("landlock")
    layers.drop_capabilities()
    layers.die_with_parent()  # must follow the changes of user, which undo it
    return level


def _namespaces(setup: Setup) -> list[str]:
    try:
        has_pids = layers.namespaces("pids" not in setup["without"])
    except OSError:
        return []
    level = ["namespaces", *(["pids"] if has_pids else [])]
    scratch = None if "scratch" in setup["without"] else setup["scratch"]
    if "private_root" not in setup["without"]:
        try:
            layers.private_root(setup["base"], setup["shown"], setup["hidden"], scratch)
            return [*level, "private_root", *(["scratch"] if scratch else [])]
        except OSError:
            pass
    if scratch:
        with contextlib.suppress(OSError):
            layers.mount_scratch(setup["scratch"])
            level.append("scratch")
    return level

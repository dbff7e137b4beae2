"""The group of torch.distributed that the ranks of one model form on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runtime_matrix.runtimes.base import Unsupported

_INTERFACE = "GLOO_SOCKET_IFNAME"  # read whenever gloo makes a group, as transformers does while it loads


@dataclass(frozen=True)
class Membership:
    """One rank's place in a group. They find each other through the file `store`."""

    rank: int
    ranks: int
    backend: str
    store: Path
    timeout_s: float


def check_none() -> None:
    """Raise Unsupported if this process is in a group already: torch has one at a time."""
    from torch import distributed

    if distributed.is_initialized():
        raise Unsupported(
            "this process distributes another model already, such as one that drafts for this one: "
            "use generation.speculate=none, or start it without torchrun"
        )


def join(membership: Membership) -> None:
    """Join the group; returns when all ranks have. RuntimeError if they have not within the timeout."""
    import torch
    from torch import distributed
    from torch.distributed import FileStore  # type: ignore[attr-defined]  # documented, and not marked as exported

    device = None
    if membership.backend == "nccl":
        device = torch.device("cuda", membership.rank)
        torch.cuda.set_device(device)
    distributed.init_process_group(
        membership.backend,
        store=FileStore(str(membership.store), membership.ranks),
        rank=membership.rank,
        world_size=membership.ranks,
        timeout=timedelta(seconds=membership.timeout_s),
        device_id=device,
    )


def leave() -> None:
    """Leave the group, and close its connections."""
    from torch import distributed

    distributed.destroy_process_group()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let gloo listen on the loopback interface alone, not on the one of the host's name."""
    before = os.environ.get(_INTERFACE)
    if before is None and sys.platform == "linux":
        os.environ[_INTERFACE] = "lo"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_INTERFACE, None)

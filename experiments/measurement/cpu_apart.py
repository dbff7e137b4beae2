"""CPU time of what sends requests, apart from that of the engine which answers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from runtime_matrix.experiments.measurement.processes import TreeClock

Where = Literal["children", "threads", "elsewhere"]


def cpu_since(where: Where) -> Callable[[], tuple[float | None, float | None]]:
    """Return a function for the CPU seconds of (client, engine) since now, to be called from the same thread.

    `where` the engine computes: in child processes, in other threads of this process, or elsewhere, where its time is
    unknown (None).
    """
    tree = TreeClock()

    def read() -> tuple[float, float, float]:
        return tree(), time.process_time(), time.thread_time()

    start = read()

    def since() -> tuple[float | None, float | None]:
        total, process, thread = (now - before for now, before in zip(read(), start, strict=True))
        if where == "threads":
            return thread, process - thread
        return process, total - process if where == "children" else None

    return since

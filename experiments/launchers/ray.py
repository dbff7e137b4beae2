"""The launcher of a Ray cluster: a task per unit, with resources. Without an address a cluster is started here."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.launchers import transport
from runtime_matrix.experiments.launchers.launcher import JobState, Launcher, Scheduler, Unit

_CONNECT_S = 5.0
_STORE_BYTES = 100 * 2**20  # the smallest that Ray accepts is 75 MiB; units return small files
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "150",  # 30 s are too few on a loaded machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Of a cluster on this machine's loopback interface alone; a token would be written to ~/.ray.
_LOCAL = {"RAY_AUTH_MODE": "disabled"}


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Options of `ray`. `resources` are Ray's custom resources."""

    address: str | None = None
    cpus: int = least(1, default=1)
    gpus: int | None = least(0, default=None)
    memory_gib: float | None = least(0.1, default=None)
    resources: dict[str, float] = field(default_factory=dict)
    exclusive: str = among("timed", "all", "none", default="timed")
    poll_s: float = least(0.1, default=0.5)
    patience_s: float = least(0, default=120.0)


class Ray(Launcher[RayConfig]):
    """Connects to a cluster, or starts one."""

    name = "ray"
    about = "A Ray cluster; without an address, one on this machine."
    Config = RayConfig

    @override
    def connect(self, config: RayConfig, results: Path) -> Scheduler:
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        if config.address is None:
            os.environ.update(_LOCAL)
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise UserError("launcher=ray needs the package ray: pip install 'runtime-matrix[ray]'") from error
        return RayScheduler(config, results)


class RayScheduler(Scheduler):
    """Tasks of Ray. A worker that cannot see the unit's folder is given its files, and returns what it wrote."""

    def __init__(self, config: RayConfig, results: Path):
        self._config, self._results, self.exclusive = config, results, config.exclusive
        self.poll_s, self.patience_s = config.poll_s, config.patience_s
        self._numbers = itertools.count(1)
        self._tasks: dict[str, tuple[Unit, Any]] = {}  # the reference of each job's result
        self._scratch: str | None = None
        self._connect()
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        self._most = {name: max(node.get(name, 0.0) for node in nodes) for node in nodes for name in node}

    def _connect(self) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
        address = self._config.address
        if address is None:
            self._scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: names of sockets have 107 bytes
            cores = len(os.sched_getaffinity(0))
            options |= {"num_cpus": cores, "object_store_memory": _STORE_BYTES, "_temp_dir": self._scratch}
            options["_node_ip_address"] = "127.0.0.1"
        else:
            _check_address(address)
            options = {"logging_level": logging.ERROR, "log_to_driver": False, "address": address}
        try:
            _ray().init(**options)
        except Exception as error:  # of many classes, after a time-out, for another version of Ray or Python
            self.close()
            raise UserError(f"launcher=ray: {address or 'a local cluster'} cannot be used: {_line(error)}") from error
        finally:
            for number, handler in before.items():  # Ray replaces them
                signal.signal(number, handler)

    @override
    def submit(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, str]]:
        for unit in units:
            job = f"{next(self._numbers)}"
            self._tasks[job] = (unit, self._start(unit, None))
            yield unit, job

    def _start(self, unit: Unit, parcel: transport.Parcel | None) -> Any:
        task = _ray().remote(_compute).options(name=unit.name, max_retries=0, **self._resources(unit))
        return task.remote(str(unit.folder), unit.token, parcel)

    def _resources(self, unit: Unit) -> dict[str, Any]:
        config = self._config
        # All processors of a node: nothing else is scheduled on it. Where nodes differ, the largest ones are used.
        cpus = self._most.get("CPU", 0.0) if self.is_alone(unit) else float(config.cpus)
        gpus = config.gpus if config.gpus is not None else int(unit.wants_gpu)
        wanted = {"CPU": cpus, "GPU": float(gpus), **config.resources}
        for name, amount in wanted.items():
            if amount > self._most.get(name, 0.0):
                raise UserError(
                    f"launcher=ray: a unit needs {amount:g} of {name}, and no node of the cluster has more than "
                    f"{self._most.get(name, 0.0):g}: lower launcher.cpus, launcher.gpus or launcher.resources"
                )
        memory = {} if config.memory_gib is None else {"memory": int(config.memory_gib * 2**30)}
        return {"num_cpus": cpus, "num_gpus": gpus, "resources": config.resources, **memory}

    @override
    def poll(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        running = {job: self._tasks[job] for job in jobs if job in self._tasks}
        references = [reference for _, reference in running.values()]
        ready, _ = _ray().wait(references, num_returns=len(references), timeout=0) if references else ([], [])
        ended = set(ready)
        return {
            job: self._ending(job, *running[job])
            if job in running and running[job][1] in ended
            else JobState("running" if job in running else "lost", reason=f"task {job} is of an earlier command")
            for job in jobs
        }

    def _ending(self, job: str, unit: Unit, reference: Any) -> JobState:
        where = f"Ray task {job}"
        try:
            is_visible, archive = _ray().get(reference)
        except Exception as error:  # of Ray, or what the task raised
            return _failure(error, where)
        if not is_visible:
            self._tasks[job] = (unit, self._start(unit, transport.parcel(unit.folder)))
            return JobState("running")
        if archive is not None:
            transport.deliver(archive, self._results)
        return JobState("ended", "crash", f"{where} ended without a result")

    @override
    def cancel(self, jobs: Sequence[str], only_waiting: bool = False) -> None:
        for job in jobs:
            if job in self._tasks:
                # Without force a running task is sent an interrupt, which it ignores.
                _ray().cancel(self._tasks[job][1], force=not only_waiting)

    @override
    def close(self) -> None:
        _ray().shutdown()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _compute(folder: str, token: str, parcel: transport.Parcel | None) -> tuple[bool, bytes | None]:
    """Compute a unit on a worker; return whether its files were there, and what it wrote if they were carried."""
    # Ray counts processors and does not bind: without a number, each unit would use all of them.
    threads = max(1, int(_ray().get_runtime_context().get_assigned_resources().get("CPU", 1)))
    if transport.is_here(Path(folder), token):
        transport.run_unit(Path(folder), token, threads)
        return True, None
    if parcel is None:
        return False, None
    with tempfile.TemporaryDirectory(prefix="runtime-matrix-") as scratch:
        return True, transport.compute_here(parcel, token, Path(scratch), threads)


def _failure(error: Exception, where: str) -> JobState:
    from ray import exceptions

    lost = (
        *(exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OwnerDiedError),
        *(exceptions.ObjectLostError, exceptions.LocalRayletDiedError, exceptions.RaySystemError),
    )
    if isinstance(error, exceptions.OutOfMemoryError):
        return JobState("ended", "out_of_memory", f"{where}: killed by Ray, whose node was out of memory")
    if isinstance(error, exceptions.TaskCancelledError):
        return JobState("ended", "interrupted", f"{where} was cancelled")
    if isinstance(error, lost):
        return JobState("lost", reason=f"{where}: {type(error).__name__}")
    return JobState("ended", "error", f"{where}: {_line(error)}")


def _check_address(address: str) -> None:
    """Raise UserError if nothing listens at HOST:PORT; Ray itself would wait for long."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"launcher.address={address} must be HOST:PORT or auto, as in 127.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"launcher.address={address}: nothing answers ({reason}): start ray there, or leave it out"
        ) from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def _ray() -> Any:
    import ray

    return ray


LAUNCHER: Launcher[Any] = Ray()

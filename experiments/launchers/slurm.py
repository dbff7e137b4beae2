"""The launcher of a Slurm cluster: units are submitted as job arrays with submitit, one array per kind of resources."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import Rule, among, least
from runtime_matrix.experiments.launchers.launcher import (
    JobState,
    Launcher,
    Scheduler,
    Unit,
    Unreachable,
    unit_command,
)
from runtime_matrix.experiments.launchers.slurm_states import read_states

_LARGEST_ARRAY = 1000  # Slurm's default MaxArraySize is 1001, which is the first index that it refuses
_ANSWER_S = 30.0  # for a command of Slurm
_STATES = ("-h", "-r", "--states=all", "-o", "%i|%T|%N|%r")
_HISTORY = ("-n", "-P", "-X", "-o", "JobID,State,NodeList,ExitCode")
_FOLDER = "units/.slurm"  # submitit's scripts, pickles and logs


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """Options of `slurm`; None leaves the choice to the cluster."""

    partition: str | None = None
    time: int | None = least(1, default=None)  # minutes
    memory_gib: float | None = least(0.1, default=None)
    cpus: int = least(1, default=1)
    gpus: int | None = least(0, default=None)
    exclusive: str = among("timed", "all", "none", default="timed")
    account: str | None = None
    jobs: int = least(1, default=1000)
    sbatch: JsonObject = field(default_factory=dict)
    setup: tuple[str, ...] = Rule(may_be_empty=True).field(default=())
    poll_s: float = least(0.1, default=5.0)
    patience_s: float = least(0, default=600.0)

    def options(self, is_alone: bool, wants_gpu: bool) -> dict[str, str | bool]:
        """Return the options of sbatch for units that have a node to themselves or not; True is a flag."""
        gpus = self.gpus if self.gpus is not None else int(wants_gpu)
        options: dict[str, str | bool] = {"no-requeue": True}  # a lost unit is submitted again by the command
        if is_alone:
            options |= {"exclusive": True, "mem": "0"}  # with all of the node's memory
        else:
            options["cpus-per-task"] = str(self.cpus)
            if self.memory_gib is not None:
                options["mem"] = f"{math.ceil(self.memory_gib * 1024)}M"
        named = {"partition": self.partition, "account": self.account, "gpus-per-node": gpus or None}
        options |= {name: str(value) for name, value in named.items() if value is not None}
        given = {name.replace("_", "-"): value for name, value in self.sbatch.items()}
        return options | {name: True if value is True else str(value) for name, value in given.items()}


class Slurm(Launcher[SlurmConfig]):
    """Submits to the cluster of the machine that it runs on."""

    name = "slurm"
    about = "A Slurm cluster, in job arrays."
    Config = SlurmConfig

    @override
    def connect(self, config: SlurmConfig, results: Path) -> Scheduler:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise UserError("launcher=slurm needs the package submitit: pip install 'runtime-matrix[slurm]'") from error
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise UserError("launcher=slurm: there is no sbatch on this machine: run it on a login node of the cluster")
        try:
            _check(config)
        except Unreachable as error:
            raise UserError(f"launcher=slurm: the scheduler does not answer: {error}") from error
        return SlurmScheduler(config, results.resolve() / _FOLDER)


class SlurmScheduler(Scheduler):
    """Jobs of Slurm. Their ids are those of squeue, as in 12 or 12_3."""

    def __init__(self, config: SlurmConfig, folder: Path):
        self._config, self._folder, self.exclusive = config, folder, config.exclusive
        self.poll_s, self.patience_s, self.most_jobs = config.poll_s, config.patience_s, config.jobs

    @override
    def submit(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, str]]:
        for (is_alone, wants_gpu, minutes), group in itertools.groupby(sorted(units, key=self._kind), key=self._kind):
            alike = list(group)
            for start in range(0, len(alike), _LARGEST_ARRAY):
                yield from self._submit(alike[start : start + _LARGEST_ARRAY], is_alone, wants_gpu, minutes)

    def _kind(self, unit: Unit) -> tuple[bool, bool, int]:
        return self.is_alone(unit), unit.wants_gpu, self._config.time or math.ceil(unit.limit_s / 60)

    def _submit(
        self, units: Sequence[Unit], is_alone: bool, wants_gpu: bool, minutes: int
    ) -> Iterator[tuple[Unit, str]]:
        import submitit
        from submitit.core.utils import FailedJobError

        executor = submitit.SlurmExecutor(self._folder / "%j")
        executor.update_parameters(
            job_name="runtime-matrix",
            time=minutes,
            array_parallelism=self._config.jobs,
            setup=list(self._config.setup) or None,
            additional_parameters=self._config.options(is_alone, wants_gpu),
            stderr_to_stdout=True,
            # The batch step may use all cores of the allocation; a step of srun would have one core of a whole node.
            use_srun=False,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            # A function of the standard library is pickled by its name: nothing of ours is imported in between.
            jobs = executor.map_array(subprocess.call, [unit_command(unit) for unit in units])
        except (FailedJobError, subprocess.CalledProcessError, OSError) as error:
            raise _refusal(str(getattr(error, "stderr", None) or error)) from error
        yield from zip(units, (job.job_id for job in jobs), strict=True)

    @override
    def poll(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        if not jobs:
            return {}
        arrays = sorted({job.partition("_")[0] for job in jobs})
        done = _ask("squeue", *_STATES, "-j", ",".join(arrays))
        if done.returncode and "Invalid job id" not in done.stderr:
            raise Unreachable(_line(done.stderr))
        states = read_states(done.stdout)
        unknown = [job for job in jobs if job not in states]
        if unknown:
            history = _ask("sacct", *_HISTORY, "-j", ",".join(unknown))  # fails where nothing is accounted
            states |= read_states(history.stdout) if history.returncode == 0 else {}
        return {job: self._with_log(job, states.get(job) or _forgotten(job)) for job in jobs}

    def _with_log(self, job: str, state: JobState) -> JobState:
        """Return a crash with the last line of the job's output."""
        log = self._folder / job / f"{job}_0_log.out"
        if state.phase != "ended" or state.status != "crash" or not log.is_file():
            return state
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return JobState(state.phase, state.status, f"{state.reason}: {lines[-1]}", state.node) if lines else state

    @override
    def cancel(self, jobs: Sequence[str], only_waiting: bool = False) -> None:
        for start in range(0, len(jobs), _LARGEST_ARRAY):
            words = ["--state=PENDING"] if only_waiting else []
            done = _ask("scancel", *words, *jobs[start : start + _LARGEST_ARRAY])
            if done.returncode and "Unable to contact" in done.stderr:
                raise Unreachable(_line(done.stderr))


def _check(config: SlurmConfig) -> None:
    """Raise UserError for a partition that does not exist and for options that sbatch refuses."""
    done = _ask("sinfo", "-h", "-o", "%R")
    if done.returncode:
        raise Unreachable(_line(done.stderr))
    partitions = set(done.stdout.split())
    if config.partition is not None and not set(config.partition.split(",")) <= partitions:
        raise UserError(
            f"launcher.partition={config.partition} does not exist{did_you_mean(config.partition, partitions)}"
        )
    for is_alone in (False, True):
        given = config.options(is_alone, wants_gpu=False).items()
        words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in given]
        done = _ask("sbatch", "--test-only", f"--time={config.time or 1}", *words, "--wrap=true")
        if done.returncode:
            raise _refusal(done.stderr)


def _forgotten(job: str) -> JobState:
    return JobState("lost", reason=f"job {job} is unknown to Slurm, which keeps ended jobs for MinJobAge seconds")


def _refusal(stderr: str) -> UserError | Unreachable:
    """Return what a failure of sbatch means."""
    line = _line(stderr)
    if any(words in stderr for words in ("Unable to contact", "timed out", "Connection refused")):
        return Unreachable(line)
    if "configuration is not available" in stderr and "unknown" in _ask("sinfo", "-h", "-o", "%T").stdout:
        return Unreachable("it was restarted, and its nodes have not yet registered")
    return UserError(
        f"launcher=slurm: sbatch refuses the options: {line}; change launcher.KEY=VALUE or +launcher.sbatch.KEY=VALUE"
    )


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{command[0]} did not answer within {_ANSWER_S:g} s") from error
    except OSError as error:
        raise Unreachable(f"{command[0]}: {error.strerror}") from error


def _line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


LAUNCHER: Launcher[Any] = Slurm()

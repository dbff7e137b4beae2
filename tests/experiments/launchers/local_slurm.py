"""A real Slurm of one node in a folder, without systemd: munged, slurmctld and slurmd as children of the test."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd")
_UP_S = 30.0
_SAVED_S = 6.0  # slurmctld saves changes within 5 s
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
MpiDefault=none
ReturnToService=2
JobAcctGatherType=jobacct_gather/linux
SchedulerParameters=sched_interval=1
MinJobAge=300
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why no Slurm can be started here; None if one can."""
    if os.geteuid() != 0:
        return "a Slurm without systemd needs root"
    absent = [name for name in _PROGRAMS if _program(name) is None]
    return f"{', '.join(absent)} not installed: apt-get install slurmctld slurmd slurm-client munge" if absent else None


class LocalSlurm:
    """A running Slurm; `stop_controller` and `start_controller` take the scheduler away and bring it back."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.configuration = folder / "slurm.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all three, and wait until the node is idle."""
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self.configuration.write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=self._folder,
                controller=_free_port(),
                node=_free_port(),
                cores=len(os.sched_getaffinity(0)),
            )
        )
        files = [f"--{name}-file={self._folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={self._folder}/munge.socket", *files)
        self.start_controller()
        self._start("slurmd", "-D", "-f", str(self.configuration))
        self.wait_for_node()

    def start_controller(self) -> None:
        """Start the scheduler from its stored state."""
        self._start("slurmctld", "-D", "-f", str(self.configuration))

    def stop_controller(self) -> None:
        """Kill the scheduler once it has saved its state; jobs go on.

        Killed before, it would start running jobs a second time, and drain their node for that.
        """
        time.sleep(_SAVED_S)
        self._stop("slurmctld")

    def stop(self) -> None:
        """End all jobs and all three."""
        self.run("scancel", "--state=RUNNING,PENDING", "--user=root")
        for name in list(self._processes):
            self._stop(name)

    def run(self, *command: str) -> str:
        """Return the output of a command of this Slurm."""
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    def _start(self, name: str, *words: str) -> None:
        log = open(self._folder / f"{name}.output", "ab")  # noqa: SIM115  # the process has it
        program = str(_program(name))
        self._processes[name] = subprocess.Popen([program, *words], stdout=log, stderr=log, start_new_session=True)
        log.close()

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait(10)

    def wait_for_node(self) -> None:
        """Wait until the node has registered."""
        end = time.monotonic() + _UP_S
        while self.run("sinfo", "-h", "-o", "%T") not in ("idle", "mixed", "allocated"):
            if time.monotonic() > end:
                logs = [path.read_text(errors="replace")[-800:] for path in sorted(self._folder.glob("*.output"))]
                raise RuntimeError(f"Slurm did not start: {logs}")
            time.sleep(0.2)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])

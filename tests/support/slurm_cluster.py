"""A Slurm cluster on this machine, in a folder, as the user who runs the tests.

From the packages ``slurmctld slurmd slurm-client munge``; nothing outside of the folder is used or changed, and only
the processes that were started here are ended. A node is a ``slurmd``; each says that it has two cores and two GPUs,
which are none.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.needed import PATH

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun", "scancel", "munged")
"""What a cluster takes."""

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=3600
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10
"""

_NODE = "NodeName={node} NodeHostName={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=16000 Gres=gpu:2"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class SlurmCluster:
    """A context manager: the cluster runs inside of it.

    Attributes:
        nodes: their names.
        env: variables for its commands.

    Args:
        nodes: how many.
    """

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder, self.nodes = folder, [f"node-{number + 1}" for number in range(nodes)]
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "FEDUMM", "HF_", "VIRTUAL_ENV"))}
        self.env = {**plain, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SlurmCluster:
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        nodes = "\n".join(_NODE.format(node=node, host=host, port=_free_port()) for node in self.nodes)
        text = _CONFIGURATION.format(
            folder=self.folder, user=getpass.getuser(), host=host, nodes=nodes, controller_port=_free_port()
        )
        (self.folder / "slurm.conf").write_text(text)
        devices = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
        (self.folder / "gres.conf").write_text(devices)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        own = [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in
               ("key-file", "socket", "pid-file", "log-file", "seed-file")]  # fmt: skip
        self._daemon("munged", "--foreground", "--force", *own)
        self.until(lambda: (self.folder / "munge.socket").exists(), 20)
        self._daemon("slurmctld", "-D", "-c", "-f", self.env["SLURM_CONF"])
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-c", "-f", self.env["SLURM_CONF"], "-N", node)
        self.until(lambda: all(map(self._idle, self.nodes)), 180)

    def _idle(self, node: str) -> bool:
        return "IDLE" in self.command("scontrol", "show", "node", node, check=False)

    def _daemon(self, *argv: str) -> None:
        with open(self.folder / f"{argv[0]}.out", "ab") as out:
            self._daemons.append(subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self.env))

    def _stop(self) -> None:
        for job in self.command("squeue", "--noheader", "--format=%A", check=False).split():
            self.command("scancel", "--full", job, check=False)
            self.until(lambda: not self.command("squeue", "--noheader", check=False), 180)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def until(self, condition: Callable[[], Any], seconds: float) -> Any:
        """The first true value of ``condition``; an error with the daemons' last words if there is none in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := condition():
                return result
            time.sleep(0.1)
        logs = (*self.folder.glob("*.out"), *self.folder.glob("slurm*.log"))
        words = "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in logs)
        raise AssertionError(f"not within {seconds} s\n{words}")

    def command(self, *argv: str, check: bool = True, cwd: Path | None = None, **env: str) -> str:
        """The output of a Slurm command."""
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**self.env, **env}, cwd=cwd)
        assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *argv: str, cwd: Path, **env: str) -> str:
        """``sbatch`` with these arguments; the job's number."""
        return self.command("sbatch", "--parsable", *argv, cwd=cwd, **env).strip()

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol`` says about a job: ``JobState``, ``Restarts``, ``ExitCode`` and more."""
        shown = self.command("scontrol", "show", "job", number, check=False)
        return dict(part.split("=", 1) for part in shown.split() if "=" in part)

    def start_now(self, number: str) -> None:
        """Without the two minutes that a job waits after it was queued again."""
        self.until(lambda: self.job(number)["JobState"] == "PENDING", 180)
        # A job that starts again in the second in which it ended is taken for the one that was killed, and never runs.
        time.sleep(2.5)
        self.command("scontrol", "update", f"jobid={number}", "StartTime=now")

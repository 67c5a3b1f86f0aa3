"""A SLURM cluster inside one machine: a controller and two nodes, each with two pretended GPUs.

Debian's packages slurm-wlm and munge, all daemons on loopback, under root. The configuration has to
lie in /etc/slurm, since Snakemake's job steps drop SLURM_CONF; it carries a mark, so that a machine
with a SLURM of its own is left alone and what a killed test run left behind is found and removed.
A pretended GPU is a device file that SLURM can hand out and nothing can compute on: a job sees its
number in CUDA_VISIBLE_DEVICES, as with a real one.
"""

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

CONFIG = Path("/etc/slurm")
FOLDER = Path("/tmp/normres-test-cluster")  # short: socket paths have a limit of 108 bytes
MARK = "# written by the tests of norms-and-residuals; safe to delete"
NODES = ("node0", "node1")
GPUS_PER_NODE = 2
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
# The required nodes are said to have more cores and memory than the machine may have: what is
# tested is who gets which GPU, not how fast.
CLUSTER = """\
{mark}
ClusterName=normres
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
MinJobAge=3600
KillWait=10
SlurmdTimeout=20
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
NodeName=DEFAULT CPUs=4 RealMemory=16000 Gres=gpu:2
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=node[0-1] Default=YES MaxTime=UNLIMITED DefaultTime=10 PriorityTier=1
PartitionName=urgent Nodes=node[0-1] MaxTime=UNLIMITED DefaultTime=10 PriorityTier=10
"""
DEVICES = "{mark}\nAutoDetect=off\n" + "".join(
    f"NodeName={node} Name=gpu File={{folder}}/{node}-gpu[0-1] Flags=nvidia_gpu_env\n"
    for node in NODES
)
CGROUPS = "{mark}\nCgroupPlugin=cgroup/v1\n"


def why_not() -> str | None:
    """Why no cluster can be started here; None where one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"no SLURM: {missing[0]} is missing (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "a SLURM cluster for tests can only be started by root"
    config = CONFIG / "slurm.conf"
    if config.exists() and MARK not in config.read_text():
        return f"this machine has a SLURM of its own ({config})"
    return None


class Cluster:
    """The running cluster; `started` makes one."""

    def run(self, *command: str) -> str:
        """Call one of SLURM's commands, which must succeed; return what it printed."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={"PATH": _path()}
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """The jobs in `states` ("all": finished ones, too): id, state, node, GPUs, restarts ..."""
        columns = {
            "id": "JobID",
            "state": "State",
            "node": "NodeList",
            "gpus": "tres-per-job",
            "restarts": "RestartCnt",
            "limit": "TimeLimit",
            "start": "StartTime",
            "end": "EndTime",
            "comment": "Comment",
        }
        wanted = ":|,".join(columns.values())
        rows = self.run(
            "squeue",
            "--noheader",
            f"--states={','.join(states) or 'all'}",
            f"--Format={wanted}:200",
        )
        return [
            dict(zip(columns, (cell.strip() for cell in row.split("|")), strict=True))
            for row in rows.splitlines()
        ]

    def queue(self) -> list[dict[str, str]]:
        """The jobs that wait or run."""
        return self.jobs("pending", "configuring", "running", "completing", "suspended")

    def preempt(self, seconds: int) -> None:
        """Take all GPUs for a more important job, for so many seconds."""
        self.run(
            "sbatch",
            "--partition=urgent",
            "--nodes=2",
            "--gpus-per-node=2",
            "--output=/dev/null",
            f"--wrap=sleep {seconds}",
        )

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self.run("slurmd", "-N", node)

    def fail_node(self, node: str) -> None:
        """Let a node go down as by a loss of power: its daemon and all that it runs are killed."""
        daemon = _pid(FOLDER / f"{node}.pid", "slurmd")
        steps = [pid for pid in _processes("slurmstepd") if _node_of(pid) == node]
        for pid in [p for p in (daemon,) if p] + [p for s in steps for p in _tree(s)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def repair(self) -> None:
        """Bring nodes that went down back."""
        for node in NODES:
            if _pid(FOLDER / f"{node}.pid", "slurmd") is None:
                self.start_node(node)
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        wait_until(
            lambda: (
                self.run(
                    "sinfo",
                    "--noheader",
                    "--states=idle",
                    "--Node",
                    "--partition=main",
                    "--format=%N",
                ).split()
                == list(NODES)
            ),
            60,
            "both nodes are idle",
        )


def started() -> Iterator[Cluster]:
    """Start a cluster, yield it, and remove all of it; waits where another test run has one."""
    with open(f"{FOLDER}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove()
        try:
            yield _start()
        finally:
            remove()


def _start() -> Cluster:
    FOLDER.mkdir(mode=0o755)
    (FOLDER / "state").mkdir()
    for node in NODES:
        (FOLDER / node).mkdir()
        for number in range(GPUS_PER_NODE):
            os.mknod(FOLDER / f"{node}-gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    values = {
        "mark": MARK,
        "host": socket.gethostname().partition(".")[0],
        "ports": _free_ports(3),
        "folder": FOLDER,
    }
    CONFIG.mkdir(exist_ok=True)
    for name, text in (("gres", DEVICES), ("cgroup", CGROUPS), ("slurm", CLUSTER)):
        (CONFIG / f"{name}.conf").write_text(text.format(**values))
    key = FOLDER / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = [f"--{name}-file={FOLDER}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    cluster = Cluster()
    cluster.run("munged", "--force", f"--socket={FOLDER}/munge.socket", *files)
    cluster.run("slurmctld")
    for node in NODES:
        cluster.start_node(node)
    cluster.wait_for_nodes()
    return cluster


def remove() -> None:
    """End every process of a cluster that `started` began, now or in a killed test run."""
    config = CONFIG / "slurm.conf"
    ours = config.exists() and MARK in config.read_text()
    if ours:
        for step in _processes("slurmstepd"):
            for pid in _tree(step):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    for name, program in (
        *((node, "slurmd") for node in NODES),
        ("slurmctld", "slurmctld"),
        ("munge", "munged"),
    ):
        pid = _pid(FOLDER / f"{name}.pid", program)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: _ended(pid), 20, f"{program} ends")
    if ours:
        for name in ("slurm", "gres", "cgroup"):
            (CONFIG / f"{name}.conf").unlink(missing_ok=True)
    shutil.rmtree(FOLDER, ignore_errors=True)


def training_processes(project: Path, run: str = "") -> list[int]:
    """The processes that train in a project's folder: all, or those of one run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or may not be looked at
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            folder = (entry / "cwd").readlink()
            trains = words[1:3] == ["-m", "train"] and folder == project
            if trains and any(word.endswith(f"{run}.progress.json") for word in words):
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition` is true; fail, naming `what`, where it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def _path() -> str:
    return "/usr/sbin:/usr/bin:/sbin:/bin"


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody has collected yet."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _processes(name: str) -> list[int]:
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if _name(int(p.name)) == name]


def _pid(file: Path, program: str) -> int | None:
    """The process that a pid file names, if it is still that program."""
    with suppress(FileNotFoundError, ValueError):
        pid = int(file.read_text())
        return pid if _name(pid) == program else None
    return None


def _tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def _node_of(step: int) -> str:
    """The node that a job step runs on, as the environment of its processes says."""
    for pid in _tree(step):
        with suppress(FileNotFoundError, ProcessLookupError):
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if entry.startswith(b"SLURMD_NODENAME="):
                    return entry.partition(b"=")[2].decode()
    return ""

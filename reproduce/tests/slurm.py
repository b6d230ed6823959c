"""A SLURM of two nodes on this machine, for as long as a test needs it. Wants root.

python -m reproduce.tests.slurm    only start and end it; exit code 2 where that cannot be, and why,
                                   3 where it should start but does not, and what the daemons wrote

The daemons run in the foreground and die with this process, however it dies. All that they write
lies in one folder, but for slurm.conf: `srun` in a job looks for it in /etc/slurm alone.
"""

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from shared.errors import UserError
from shared.options import script

CONF = Path("/etc/slurm/slurm.conf")
MARK = "# Two nodes for a test, which removes this file at its end."
NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd")
CALLED = ("sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "setpriv")
PROGRAMS = (*DAEMONS, *CALLED)
# Seconds; a daemon on a busy machine is slow to start.
PATIENCE = 90

# Each node offers one core and enough memory for one job, whatever the machine has.
CONTENT = """{mark}
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
# A node that says nothing for ten seconds is down; what has ended stays listed.
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Submitted(NamedTuple):
    """A job as SLURM lists it.

    Attributes:
        number: of the job.
        state: such as RUNNING.
        node: that it is or was on, empty if on none.
        folder: in which it runs.
        comment: which the one who submitted it gave.
    """

    number: str
    state: str
    node: str
    folder: Path
    comment: str


def obstacle() -> str | None:
    """Why no cluster can be started here, in a sentence that says what to do; None if it can."""
    if os.geteuid() != 0:
        return "SLURM's daemons want root: run this session as root, in a container say"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        install = "`apt-get install slurm-wlm munge` brings it"
        return f"SLURM is not installed here ({missing[0]} is missing): {install}"
    if not can_become("munge"):
        return (
            "root may not act as the user munge here, as one of SLURM's daemons has to: give the "
            "container the capabilities chown, setuid and setgid, or take another machine"
        )
    if not CONF.exists():
        return None
    content = CONF.read_text()
    if not content.startswith(MARK):
        return f"{CONF} is of another cluster and would be overwritten: move it away meanwhile"
    owner = re.search(r"^ClusterName=test(\d+)$", content, re.MULTILINE)
    if owner and _has_written(int(owner[1]), CONF):
        return f"{CONF} is used by another such test, process {owner[1]}: wait for its end"
    return None


def can_become(user: str) -> bool:
    """Whether we may give files to a user and start programs as this one."""
    try:
        entry = pwd.getpwnam(user)
        with tempfile.NamedTemporaryFile() as file:
            os.chown(file.name, entry.pw_uid, entry.pw_gid)
    except (KeyError, OSError):
        return False
    return subprocess.run([*_as(entry), "true"], capture_output=True).returncode == 0


def _as(user: pwd.struct_passwd) -> list[str]:
    """How a command is begun that a user shall run."""
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _has_written(process: int, path: Path) -> bool:
    """Whether a process lives that can have written a file: numbers of killed ones come again."""
    try:
        return psutil.Process(process).create_time() <= path.stat().st_mtime
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Look again and again, until something holds.

    Raises:
        TimeoutError: it does not in that time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still waiting until {what}")
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _call(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Cluster:
    """A control daemon and two nodes of one core each, used as a context.

    Raises:
        TimeoutError: a daemon does not do what it should; its log is in the message.
        ChildProcessError: a daemon has ended, the same.
    """

    def __init__(self) -> None:
        self.name = f"test{os.getpid()}"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        try:
            self._configure()
            self._start_munged()
            self._start("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start_node(node)
        except BaseException as error:
            error.add_note(self.logs())
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _configure(self) -> None:
        self.folder.chmod(0o755)  # munged is another user
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
        CONF.parent.mkdir(exist_ok=True)
        host, ports = socket.gethostname().split(".")[0], _free_ports(3)
        words = {"name": self.name, "host": host, "folder": self.folder, "ports": ports}
        CONF.write_text(CONTENT.format(mark=MARK, **words))

    def _start(self, name: str, *words: str, before: Sequence[str] = ()) -> None:
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *before, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test, which then stops them
            )

    def _wait_for(self, name: str, holds: Callable[[], bool], what: str) -> None:
        """Wait until a daemon that was started has done something."""

        def holds_or_has_ended() -> bool:
            if (code := self._daemons[name].poll()) is not None:
                raise ChildProcessError(f"{name} has ended with exit code {code}")
            return holds()

        wait_until(holds_or_has_ended, what)

    def _start_munged(self) -> None:
        own = self.folder / "munge"
        own.mkdir(mode=0o700)
        key = own / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        user = pwd.getpwnam("munge")
        for path in (own, key, self.folder):
            os.chown(path, user.pw_uid, user.pw_gid)
        socket_path = self.folder / "munge.socket"
        files = [f"--{name}-file={own / name}" for name in ("key", "log", "pid", "seed")]
        words = ("munged", "-F", f"--socket={socket_path}", *files)
        self._start("munged", *words, before=_as(user)[1:])
        self._wait_for("munged", socket_path.exists, "munged listens")

    def start_node(self, node: str) -> None:
        """Start a node, and wait until jobs can be given to it."""
        self._start(node, "slurmd", "-D", "-N", node)
        ready = ("idle", "mixed", "allocated")
        self._wait_for(node, lambda: self.states().get(node) in ready, f"{node} is ready")

    def logs(self) -> str:
        """The last lines that the daemons wrote."""
        paths = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        parts = [(path.name, path.read_text(errors="replace")[-2000:]) for path in sorted(paths)]
        return "\n".join(f"--- {name}\n{text}" for name, text in parts if text)

    def states(self) -> dict[str, str]:
        """The nodes' states, such as idle; none while the control daemon does not answer."""
        words = ("sinfo", "--noheader", "--Node", "--format=%N %T")
        done = subprocess.run(words, capture_output=True, text=True)
        return dict(line.rstrip("*").split() for line in done.stdout.splitlines())

    def jobs(self) -> list[Submitted]:
        """Every job so far, those that have ended too."""
        words = ("--states=all", "--noheader", "--sort=i", "--format=%i|%T|%N|%Z|%k")
        lines = [line.split("|", 4) for line in _call("squeue", *words).splitlines()]
        return [Submitted(*line[:3], Path(line[3]), line[4]) for line in lines]

    def kill_job(self, number: str) -> None:
        """Kill all that a job runs."""
        _call("scancel", "--signal=KILL", number)

    def hurry(self, number: str) -> None:
        """Let a job that was put back into the queue start: SLURM holds it for two minutes."""
        wait_until(
            lambda: (number, "PENDING") in [job[:2] for job in self.jobs()], "it is queued again"
        )
        _call("scontrol", "update", f"JobId={number}", "StartTime=now")

    def fail(self, node: str) -> None:
        """Kill a node: its daemon, and all processes of its jobs, which can say nothing more."""
        numbers = {job.number for job in self.jobs() if (job.state, job.node) == ("RUNNING", node)}
        self._kill(node)
        # What watches over a job comes first: it would tell that the job has failed.
        _kill_all(_processes(self.name, numbers))

    def _kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _stop(self) -> None:
        """End all that was started and remove all that was written, whatever state it is in."""
        for name in reversed(list(self._daemons)):
            self._kill(name)
        _kill_all(_processes(self.name))
        if CONF.exists() and CONF.read_text().startswith(MARK):
            CONF.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def _processes(cluster: str, numbers: Collection[str] | None = None) -> list[psutil.Process]:
    """The processes of a cluster's jobs, of all or of some; first those that watch over others."""
    tasks = []
    for process in psutil.process_iter():
        try:
            of_it = process.environ()
        except psutil.Error:
            continue
        is_wanted = numbers is None or of_it.get("SLURM_JOB_ID") in numbers
        if of_it.get("SLURM_CLUSTER_NAME") == cluster and is_wanted:
            tasks.append(process)
    watchers = []
    for task in tasks:
        with contextlib.suppress(psutil.Error):
            parent = task.parent()
            if parent is not None and parent.name().startswith("slurmstepd"):
                watchers.append(parent)
    return [*dict.fromkeys(watchers), *tasks]


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, PATIENCE)


def main() -> None:
    """Start a cluster and end it."""
    if reason := obstacle():
        raise UserError(reason)
    try:
        with Cluster() as cluster:
            print(f"SLURM starts here: {cluster.states()}")
    except OSError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    script(main)

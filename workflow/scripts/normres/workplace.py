"""The results folder, made ready for one call of Snakemake: locked, writable, its clock right."""

import errno
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock
from snakemake.settings.types import ExecMode

from normres.errors import InputError, one_line
from normres.files import is_edited, set_aside
from normres.locks import try_lock

# Of file systems that cannot lock a file for others to see.
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


class Workplace:
    """A results folder with its lock, which is held as long as the object and the process live.

    Snakemake's own lock is a file that outlives a killed process and then has to be removed by
    hand. The kernel frees this one when the process ends, however it ends, also where jobs that it
    started are still running: those hold locks of their own (see store.py).
    """

    def __init__(self, results: Path):
        self.results = results
        self.lock_file = results / ".lock"
        self.lock: FileLock | None = None

    def start(self, workflow) -> None:
        """Called before the first job: get ready, or end with one line and exit code 2.

        Jobs on a cluster run a Snakemake of their own; the call that sent them has done this.
        """
        if workflow.exec_mode != ExecMode.DEFAULT:
            return
        with one_line():
            refuse_jobs(workflow)
            self.take()
        bring_back({Path(path) for job in workflow.dag.needrun_jobs() for path in job.input})

    def take(self) -> None:
        """Take the lock, making the folder where there is none.

        Raises InputError where another process holds it, where nothing can be written there, and
        where the file system knows no locks.
        """
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            self.lock = try_lock(self.lock_file)
            if self.lock is None:
                raise InputError(
                    f"{self.results}: in use by {self._holder()}; wait until it ends, or end it"
                )
            self.lock_file.write_text(_describe_holder(), encoding="utf-8")
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                reason = "its file system has no locks; mount it with them or link to another one"
            elif error.errno == errno.EACCES and self.lock_file.exists():
                reason = (
                    f"{self.lock_file.name} there is another user's; `chmod g+w` it, or remove it"
                )
            else:
                reason = f"nothing can be written there ({error.strerror or error})"
            raise InputError(f"{self.results}: {reason}") from None

    def fail(self, studies: Iterable[str]) -> None:
        """Called when a job has failed: set tables aside that were edited, so that all is remade.

        Not before all jobs have ended: Snakemake stops where it misses the input of a job.
        """
        for study in studies:
            for table in (self.results / study).glob("*.csv"):
                if is_edited(table):
                    set_aside(table)

    def _holder(self) -> str:
        try:
            text = self.lock_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        return " ".join(text.split()) or "another call of snakemake"  # it may not have written yet


def refuse_jobs(workflow) -> None:
    """Raise InputError where jobs are not to be run, or by what is not there.

    `--touch` would call done what failed or is of another definition. A number of jobs without a
    cluster makes Snakemake's settings those of one, where nothing keeps a timing alone.
    """
    if workflow.touch:
        raise InputError(
            "--touch would call results up to date that are not; leave it out: what is there and "
            "fits is not made again"
        )
    if workflow.nodes is not None and workflow.local_exec:
        raise InputError(
            f"--jobs {workflow.nodes} is for a cluster, but no executor of one is given: leave it "
            "out (a profile may set it as `jobs`); --cores is for this machine"
        )


def bring_back(paths: Iterable[Path]) -> None:
    """Give files from the future, as a clock that was wrong leaves them, the present time.

    Snakemake fails every job that reads one: what it writes is older than its input.
    """
    now = time.time()
    for path in paths:
        with suppress(OSError):  # not there yet
            if path.stat().st_mtime > now:
                os.utime(path, (now, now))


def _describe_holder() -> str:
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}\n"

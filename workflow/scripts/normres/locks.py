"""Locks that end with the process that holds them, however it ends."""

import fcntl
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout


def try_lock(path: Path) -> FileLock | None:
    """The lock of the file at `path`, held from now on, or None where another process holds it.

    It is held until it is released or nobody refers to it any more. Raises OSError where the file
    system has no such locks: a file that stands for a lock would outlive a killed process. Whoever
    may write in the folder may take the lock.
    """
    lock = FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def try_flock(path: Path, *, shared: bool) -> IO[str] | None:
    """An open file with a lock that lasts until it is closed (flock(2)); None where it is held.

    Many may share it at a time; otherwise the lock is one's own. (filelock has none that is shared
    by processes and ends with them.)
    """
    file = path.open("a+")  # NFS shares no lock of a file that is open for writing alone
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file

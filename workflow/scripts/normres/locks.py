"""Locks that end with the process that holds them, however it ends."""

from pathlib import Path

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

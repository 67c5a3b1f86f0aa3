"""Who computes where on this machine: which GPU a run takes, and when a timing is alone.

Snakemake limits how many jobs use a GPU at a time, but does not say which one each may use (its
issues 116 and 281). So a run leases a slot: one lock file for each of `runs_per_gpu` slots of each
device, in a folder of this machine. Runs on the CPU share a lock there, which a timing takes as a
whole: another call may train, or a run may go on whose Snakemake was killed. Locks are the kernel's
(flock) and end with the process.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from normres.gpus import visible_gpus
from normres.interruption import waiting
from normres.locks import try_flock, try_lock
from normres.promises import may_use_gpu

WAIT_SECONDS = 0.2  # between two looks whether a slot is free


# Leases of this process. They are not given back: CUDA keeps its memory until the process ends.
held: list[FileLock | IO[str]] = []


def lease_gpu(
    runs_per_gpu: int, while_waiting: Callable[[], None], exclusive: bool = False
) -> None:
    """Take a slot of a GPU for the life of this process; CUDA_VISIBLE_DEVICES names that GPU alone.

    `exclusive` takes all slots of a GPU. Waits while slots are taken, calling `while_waiting` every
    moment; it may raise to give up.
    Must be called before CUDA starts. Where SLURM has given this process its one GPU, or there
    is none, nothing happens.
    """
    gpus = visible_gpus()
    if not gpus or ("SLURM_JOB_ID" in os.environ and len(gpus) == 1):
        return
    if "CUDA_VISIBLE_DEVICES" not in os.environ:  # CUDA's own order begins with the fastest
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    take = _take_gpu if exclusive else _take_slot
    gpu, locks = take(made_folder(), gpus, runs_per_gpu, while_waiting)
    held.extend(locks)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def lease_machine(while_waiting: Callable[[], None]) -> None:
    """Be the only timing of this user on this machine (or in this allocation), for life.

    Waits and calls `while_waiting` as `lease_gpu` does. A timing whose Snakemake was killed goes
    on, and the next call's must not compute beside it.
    """
    held.append(_wait_for(partial(try_lock, made_folder() / "timing"), while_waiting))


def lease_cpu(while_waiting: Callable[[], None]) -> None:
    """Have this machine's CPU without any run there, for life: new ones wait (`share_cpu`).

    Waits for those that are at work, and calls `while_waiting` as `lease_gpu` does.
    """
    folder = made_folder()
    for name in ("cpu-wanted", "cpu"):
        take = partial(try_flock, folder / name, shared=False)
        held.append(_wait_for(take, while_waiting))


@contextmanager
def share_cpu(while_waiting: Callable[[], None]) -> Iterator[None]:
    """Compute on this machine's CPU beside other runs, not beside a timing there.

    Waits and calls `while_waiting` as `lease_gpu` does.
    """
    folder = made_folder()

    def take() -> IO[str] | None:
        if (share := try_flock(folder / "cpu", shared=True)) is None:
            return None
        if (unwanted := try_flock(folder / "cpu-wanted", shared=True)) is None:
            share.close()
            return None
        unwanted.close()
        return share

    with _wait_for(take, while_waiting):
        yield


def lease_for_timing(device: str, gpus: int | None, runs_per_gpu: int) -> None:
    """Be alone for a measurement, for life: the only timing here, on a GPU or CPU without any run.

    `device` and `gpus` are those of devices.choose_device. Says once what is waited for.
    """
    lease_machine(waiting("another timing is at work here"))
    if may_use_gpu(device, gpus) and visible_gpus():
        lease_gpu(runs_per_gpu, waiting("no GPU is free of runs"), exclusive=True)
    else:
        lease_cpu(waiting("runs are at work here"))


def _wait_for(take: Callable[[], Any], while_waiting: Callable[[], None]) -> Any:
    """What `take` gives, once it is not None; where that took a while, says that it is over."""
    waited = False
    while (taken := take()) is None:
        while_waiting()
        waited = True
        time.sleep(WAIT_SECONDS)
    if waited:
        print("waited for it", flush=True)
    return taken


def lease_folder() -> Path:
    """The folder of the lock files: of this user on this machine.

    Within a SLURM allocation it is the allocation's own, since devices are numbered anew there.
    """
    name = f"normres-gpus-{os.getuid()}"
    if "SLURM_JOB_ID" in os.environ:
        name += f"-slurm-{os.environ['SLURM_JOB_ID']}"
    return Path(tempfile.gettempdir()) / name


def made_folder() -> Path:
    """`lease_folder`, made where it is not there; no other user may look in."""
    folder = lease_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _take_slot(
    folder: Path, gpus: list[str], runs_per_gpu: int, while_waiting: Callable[[], None]
) -> tuple[str, list[FileLock]]:
    """Take a slot, a GPU's second one only when every GPU's first is taken.

    None of a GPU that is wanted as a whole, though a slot may be free there.
    """
    while True:
        for slot in range(runs_per_gpu):
            for gpu in gpus:
                lock = try_lock(_lock_file(folder, gpu, f"slot-{slot}"))
                if lock is None:
                    continue
                whole = try_lock(_lock_file(folder, gpu, "all"))
                if whole is not None:
                    whole.release()
                    return gpu, [lock]
                lock.release()
        while_waiting()
        time.sleep(WAIT_SECONDS)


def _take_gpu(
    folder: Path, gpus: list[str], runs_per_gpu: int, while_waiting: Callable[[], None]
) -> tuple[str, list[FileLock]]:
    """Take all slots of one GPU: of a free one, else of the one with most free slots.

    What is taken there is kept while its other runs end. That makes nobody wait for ever: runs wait
    with no slot in hand, and of those who want a whole GPU only one has its lock `all`. Slots of
    runs that were started with a larger `runs_per_gpu` are waited for as well: they are looked for
    once `all` is taken, from when on there are no new ones.
    """
    taken: dict[str, dict[str, FileLock]] = {gpu: {} for gpu in gpus}
    while True:
        names = {"all"}
        for gpu, locks in taken.items():
            whole = locks.get("all") or try_lock(_lock_file(folder, gpu, "all"))
            if whole is None:
                continue
            locks["all"] = whole
            names |= {f"slot-{slot}" for slot in range(runs_per_gpu)}
            names |= {path.name[path.name.rindex("slot-") :] for path in folder.glob("*-slot-*")}
            for name in sorted(names - locks.keys()):
                if (lock := try_lock(_lock_file(folder, gpu, name))) is not None:
                    locks[name] = lock
        chosen = max(taken, key=lambda gpu: len(taken[gpu]))
        if taken[chosen]:
            for lock in (lock for gpu in taken if gpu != chosen for lock in taken[gpu].values()):
                lock.release()
            taken = {chosen: taken[chosen]}
        if len(taken[chosen]) == len(names):
            return chosen, list(taken[chosen].values())
        while_waiting()
        time.sleep(WAIT_SECONDS)


def _lock_file(folder: Path, gpu: str, name: str) -> Path:
    return folder / f"gpu-{gpu.replace('/', '_')}-{name}"

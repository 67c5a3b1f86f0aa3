"""The store of trained runs: what was trained once is neither trained again nor lost.

Snakemake deletes the declared outputs of a job before it starts and after it fails, so a run's
state cannot be one. It lies in the store, in a folder named by the run's key, which is all that
its numbers depend on, the number of epochs aside:

    results/store/<key>/state.pt         where training can go on
    results/store/<key>/epochs-<N>/      the outputs after N epochs; studies link or copy them
    results/store/<key>/lock             held by the process that trains

So more epochs continue a run, and a run that another study has trained is linked.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from normres.files import replacing
from normres.grid import RUN_FILES, WEIGHTS


def run_key(specification: Mapping[str, Any], fingerprint: str, data_checksum: str) -> str:
    """The name of a run's folder: a hash of all that its numbers depend on, epochs aside."""
    identity = {key: value for key, value in specification.items() if key != "epochs"}
    text = json.dumps([identity, fingerprint, data_checksum], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class StoredRun:
    """One run's folder in the store. Use it within `locked`, but for `prune_states`."""

    def __init__(self, store: str | Path, key: str):
        self.key = key
        self.store = Path(store)
        self.folder = self.store / key
        self.state_file = self.folder / "state.pt"

    @contextmanager
    def locked(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the run's lock; the kernel frees it when the process ends, however it ends.

        `on_wait` is called once where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def finished(self, epochs: int) -> Path | None:
        """The folder with the outputs after `epochs` epochs, or None where one is missing."""
        folder = self.folder / f"epochs-{epochs}"
        return folder if all((folder / name).is_file() for name in RUN_FILES) else None

    @contextmanager
    def finishing(self, epochs: int) -> Iterator[Path]:
        """Yield a folder to write the outputs to; it becomes `finished` when the block ends."""
        partial = self.folder / f"epochs-{epochs}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        finished = self.folder / f"epochs-{epochs}"
        try:
            yield partial
            shutil.rmtree(finished, ignore_errors=True)  # one that lost a file
            os.replace(partial, finished)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep `state`, replacing the earlier one."""
        save_tensors(state, self.state_file)

    def load_state(self) -> dict[str, Any] | None:
        """The last state saved, on the CPU, or None.

        A file that is not a whole state is said, and kept aside as state.unreadable.
        """
        try:
            return torch.load(self.state_file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (EOFError, RuntimeError, UnpicklingError) as error:
            aside = self.state_file.with_suffix(".unreadable")
            os.replace(self.state_file, aside)
            print(f"{self.state_file}: unreadable ({type(error).__name__}); kept as {aside.name}")
            return None

    def prune_states(self, budget_gb: float) -> None:
        """Remove states of finished runs, oldest first, until all fit into `budget_gb` GB.

        Those of runs that a process holds stay.
        """
        states = []
        for path in self.store.glob("*/state.pt"):
            if any(path.parent.glob("epochs-*[0-9]/run.json")) and not _is_locked(path.parent):
                with suppress(FileNotFoundError):  # another process has just removed it
                    status = path.stat()
                    states.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in states) - budget_gb * 1e9
        for _, size, path in sorted(states):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _is_locked(folder: Path) -> bool:
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def save_tensors(value: Any, path: str | Path) -> None:
    """Save tensors so that the bytes depend on them alone.

    torch.save names the archive's root after the file it writes to; a buffer has no name.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def link_outputs(source: Path, target: Path) -> None:
    """Copy the outputs from `source` to `target`; the large one, the weights, becomes a link.

    The small ones are what a study's tables are made from: a link would carry the time stamp, and
    any edit, from one study to another.
    """
    for name in RUN_FILES:
        with replacing(target / name) as temporary:
            _link_or_copy(source / name, temporary, link=name == WEIGHTS)


def _link_or_copy(source: Path, target: Path, link: bool) -> None:
    target.unlink(missing_ok=True)  # of a process that was killed and had the same number
    if link:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
    if target.exists():
        os.utime(target)  # Snakemake wants outputs to be newer than the job's inputs
    else:
        shutil.copyfile(source, target)

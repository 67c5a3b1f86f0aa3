"""The store of trained runs: what was trained once is neither trained again nor lost.

Snakemake deletes the declared outputs of a job before it starts and after it fails, so a run's
state cannot be one. It lies in the store, in a folder named by the run's key, which is all that
its numbers depend on, the number of epochs aside:

    results/store/<key>/state.pt         where training can go on
    results/store/<key>/epochs-<N>/      the outputs after N epochs; studies link or copy them
    results/store/<key>/lock             held by the process that trains

So more epochs continue a run, fewer are read off a longer one, and a run that another study has
trained is linked. Locks are the kernel's (flock): they end with the process, however it ends.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from normres.errors import InputError
from normres.files import file_checksum, link_or_copy, read_json, record_checksum, replacing
from normres.grid import RECORD, RUN_FILES, WEIGHTS
from normres.locks import try_lock

STATE, LOCK = "state.pt", "lock"
WAIT_SECONDS = 0.5  # between two looks whether a lock is free


def run_key(specification: Mapping[str, Any], fingerprint: str, data_checksum: str) -> str:
    """The name of a run's folder: a hash of all that its numbers depend on, epochs aside."""
    identity = {key: value for key, value in specification.items() if key != "epochs"}
    text = json.dumps([identity, fingerprint, data_checksum], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class StoredRun:
    """One run's folder in the store. Read and write it within `locked`."""

    def __init__(self, store: str | Path, key: str):
        self.key = key
        self.store = Path(store)
        self.folder = self.store / key
        self.state_file = self.folder / STATE
        self.lock_file = self.folder / LOCK

    @contextmanager
    def locked(self, while_waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the run's lock; `while_waiting` is called every moment that another process does.

        It may raise to give up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        while (lock := try_lock(self.lock_file)) is None:
            while_waiting()
            time.sleep(WAIT_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Whether a process holds the run's lock."""
        lock = try_lock(self.lock_file)
        if lock is not None:
            lock.release()
        return lock is None

    def outputs(self, epochs: int) -> Path:
        """The folder of the outputs after `epochs` epochs, there or not."""
        return self.folder / f"epochs-{epochs}"

    def finished(self, epochs: int) -> Path | None:
        """`outputs` where they are whole, else None. Reads all of them."""
        folder = self.outputs(epochs)
        return folder if are_whole(folder) else None

    def _epochs(self) -> list[int]:
        """The numbers of epochs after which there are outputs, ascending."""
        return sorted(int(p.name.rpartition("-")[2]) for p in self.folder.glob("epochs-*[0-9]"))

    def longer(self, epochs: int) -> Path | None:
        """The folder with the outputs after the fewest epochs beyond `epochs`, or None."""
        found = (self.finished(number) for number in self._epochs() if number > epochs)
        return next((folder for folder in found if folder), None)

    @contextmanager
    def finishing(self, epochs: int) -> Iterator[Path]:
        """Yield a folder to write the outputs to; it becomes `finished` when the block ends."""
        finished = self.outputs(epochs)
        partial = finished.with_name(f"{finished.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            shutil.rmtree(finished, ignore_errors=True)  # one that lost a file
            os.replace(partial, finished)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep `state`, replacing the earlier one."""
        from normres.tensors import save_tensors  # here, since it imports torch: see below

        save_tensors({"key": self.key, **state}, self.state_file)

    def load_state(self) -> dict[str, Any] | None:
        """The last state saved, on the CPU, or None.

        A file that is not a whole state of this run is said, and kept aside as state.unreadable.
        """
        # Torch takes seconds to import; what looks after the store (housekeeping.py) needs none.
        from normres.tensors import read_tensors

        try:
            content = self.state_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            state = read_tensors(content)
            if state["key"] != self.key:
                raise ValueError(f"of another run, {state['key']}")
            state["run"], state["environments"][-1]
        except Exception as error:  # whatever a damaged or foreign file makes the readers raise
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise  # that says nothing of the file
            aside = self.state_file.with_suffix(".unreadable")
            os.replace(self.state_file, aside)
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{self.state_file}: not a state of this run ({reason}); kept as {aside.name}")
            return None
        return state

    def has_spare_state(self) -> bool:
        """Whether only more epochs than were asked for until now would need the run's state.

        Not where the run was interrupted on its way to more: then its state is younger than the
        outputs of the most epochs, or these are the first epochs of what the state holds.
        """
        epochs = max(self._epochs(), default=None)
        if epochs is None:
            return False
        record = self.outputs(epochs) / RECORD
        try:
            ends = read_json(record)["weights_epoch"] <= epochs
            return ends and self.state_file.stat().st_mtime <= record.stat().st_mtime
        except FileNotFoundError:  # another process has removed it
            return False
        except (InputError, KeyError, TypeError):  # not a record: made anew from the state
            return False

    def remove_spare_state(self) -> None:
        """Remove the state if it still is spare and no process holds the run."""
        lock = try_lock(self.lock_file)
        if lock is not None:
            if self.has_spare_state():
                self.state_file.unlink(missing_ok=True)
            lock.release()

    def prune_states(self, budget_gb: float) -> None:
        """Remove states of finished runs, oldest first, until all fit into `budget_gb` GB.

        Those of runs that a process holds stay. Called after each run, of which there may be
        thousands: where all states fit, no run's folder is opened.
        """
        states = list_states(self.store)
        if sum(size for _, size, _ in states) <= budget_gb * 1e9:
            return
        spare = [state for state in states if state[2].has_spare_state()]
        excess = sum(size for _, size, _ in spare) - budget_gb * 1e9
        for _, size, run in spare:
            if excess <= 0:
                break
            run.remove_spare_state()
            excess -= size


def list_states(store: Path) -> list[tuple[float, int, StoredRun]]:
    """The time, size in bytes and run of every state in the store, the oldest first."""
    states = []
    with os.scandir(store) as entries:
        for entry in entries:
            with suppress(FileNotFoundError, NotADirectoryError):
                status = Path(entry.path, STATE).stat()
                states.append((status.st_mtime, status.st_size, StoredRun(store, entry.name)))
    return sorted(states, key=lambda state: state[:2])


def are_whole(folder: Path) -> bool:
    """Whether `folder` holds a run's files as they were written."""
    try:
        record = read_json(folder / RECORD)
        files = record["files"]
        return record["checksum"] == record_checksum(record) and all(
            file_checksum(folder / name) == files[name] for name in RUN_FILES if name != RECORD
        )
    except (InputError, KeyError, TypeError, FileNotFoundError):
        return False


def link_outputs(source: Path, target: Path) -> None:
    """Copy the outputs from `source` to `target`; the large one, the weights, becomes a link.

    The small ones are what a study's tables are made from: a link would carry the time stamp, and
    any edit, from one study to another.
    """
    for name in RUN_FILES:
        with replacing(target / name) as temporary:
            link_or_copy(source / name, temporary, link=name == WEIGHTS)

"""The store of trained runs: what was trained once is neither trained again nor lost.

Snakemake deletes the declared outputs of a job before it starts and after it fails, so a run's
state cannot be one. It lies in the store, in a folder named by the run's key, which is all that
its numbers depend on, the number of epochs aside:

    results/store/<key>/state.pt         where training can go on
    results/store/<key>/epochs-<N>/      the outputs after N epochs, hard links of those in a study
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from normres.files import replacing

OUTPUTS = ("history.csv", "run.json", "model.pt", "test_logits.npy")


def run_key(specification: Mapping[str, Any], fingerprint: str, data_checksum: str) -> str:
    """The name of a run's folder: a hash of all that its numbers depend on, epochs aside."""
    identity = {key: value for key, value in specification.items() if key != "epochs"}
    text = json.dumps([identity, fingerprint, data_checksum], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class StoredRun:
    """One run's folder in the store. Use it within `locked`."""

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
        """The folder with the outputs after `epochs` epochs, or None."""
        folder = self.folder / f"epochs-{epochs}"
        return folder if folder.is_dir() else None

    @contextmanager
    def finishing(self, epochs: int) -> Iterator[Path]:
        """Yield a folder to write the outputs to; it becomes `finished` when the block ends."""
        partial = self.folder / f"epochs-{epochs}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            os.replace(partial, self.folder / f"epochs-{epochs}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep `state`, replacing the earlier one."""
        save_tensors(state, self.state_file)

    def load_state(self) -> dict[str, Any] | None:
        """The last state saved, on the CPU, or None."""
        if not self.state_file.exists():
            return None
        return torch.load(self.state_file, map_location="cpu", weights_only=True)

    def prune_states(self, budget_gb: float) -> None:
        """Remove the states of finished runs, oldest first, until all fit into `budget_gb` GB."""
        states = [
            (path.stat().st_mtime, path.stat().st_size, path)
            for path in self.store.glob("*/state.pt")
            if any(path.parent.glob("epochs-*/run.json"))
        ]
        excess = sum(size for _, size, _ in states) - budget_gb * 1e9
        for _, size, path in sorted(states):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def save_tensors(value: Any, path: str | Path) -> None:
    """Save tensors so that the bytes depend on them alone.

    torch.save names the archive's root after the file it writes to; a buffer has no name.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def link_outputs(source: Path, target: Path) -> None:
    """Give the files of `source` names in `target`, too, or copies where links are not possible."""
    target.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        temporary = target / f".{name}.{os.getpid()}.partial"
        temporary.unlink(missing_ok=True)
        try:
            os.link(source / name, temporary)
        except OSError:
            shutil.copyfile(source / name, temporary)
        os.utime(temporary)  # Snakemake wants outputs to be newer than the job's inputs
        os.replace(temporary, target / name)

"""One attempt to train a run: from its last state, if there is one, to its outputs.

Apart from train.py, since it imports torch, which a run that is only linked does not need.
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from normres import catalog
from normres.constraints import check_last_batch
from normres.devices import (
    Computation,
    choose_computation,
    choose_device,
    say_uncompiled,
    short_of_memory,
)
from normres.environment import EXACT, describe
from normres.images import Images
from normres.interruption import Interrupted, StopRequest, waiting
from normres.leases import lease_gpu, share_cpu
from normres.outputs import write_outputs
from normres.promises import may_use_gpu
from normres.run_progress import ProgressFile
from normres.store import StoredRun
from normres.training import TrainingRun

# The columns of the history that a person follows in the log.
LOGGED = (
    "epoch",
    "train_loss",
    "train_eval_accuracy",
    "test_loss",
    "test_accuracy",
    "train_seconds",
    "images_per_second",
)

CPU_SAYS = "can't allocate memory"  # PyTorch's allocator of the machine's own memory
LITTLE = 0.1  # of a GPU's memory: what this process itself needs beside its tensors is within it


def train_into(
    folder: Path,
    plan: Mapping[str, Any],
    images: Images,
    stored: StoredRun,
    arguments: argparse.Namespace,
    stop: StopRequest,
) -> None:
    """Train from the last state, if there is one, and write the outputs to `folder`.

    `arguments` are those of train.py. Raises MemoryError, saying what to try, where there is too
    little, and Interrupted after a stop signal, once the state is saved.
    """
    specification, runs = plan["specification"], arguments.runs_per_gpu
    started = datetime.now(UTC)
    fewer = f", or runs_per_gpu below {runs}" if runs > 1 else ""
    with naming_others(runs):
        run, computation = begin(specification, images, arguments, stop, fewer)
        size = specification["batch_size"]
        smaller = f"a batch_size below {size}" if size > 1 else "a smaller image_size"
        with short_of_memory(f"try {smaller}{fewer}"), place(computation, stop):
            environments = resume(run, stored, computation)
            if run.epoch < specification["epochs"]:
                environments.append(describe(computation))
            train_epochs(run, stored, environments, arguments, stop)
            write_outputs(folder, plan, run, environments, started)


@contextmanager
def naming_others(runs: int) -> Iterator[None]:
    """Add to a GPU's MemoryError what other processes hold of it: no smaller batch changes that.

    `runs` of this call may share the GPU.
    """
    try:
        yield
    except MemoryError as error:
        said = str(error)
        if not said or CPU_SAYS in said:  # Python's own has no words
            raise
        raise MemoryError(f"{said}{held_by_others(runs)}") from None


def held_by_others(runs: int) -> str:
    """How much of the GPU other processes hold, with what to do; empty where it is not much."""
    if not torch.cuda.is_initialized():
        return ""
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # not even what each process needs to begin has room
        held = "all of the GPU"
    else:
        others = total - free - torch.cuda.memory_reserved()
        if others < LITTLE * total:
            return ""
        held = f"about {others / 1e9:.0f} of the GPU's {total / 1e9:.0f} GB"
    which = "nvidia-smi lists them" + "; runs of this call may be among them" * (runs > 1)
    return (
        f"; other processes ({which}) hold {held}: wait for them, "
        "or name another GPU by CUDA_VISIBLE_DEVICES"
    )


def load_code(specification: Mapping[str, Any]) -> None:
    """Import network and norm, before a wait: what is edited meanwhile is not the plan's."""
    for kind, name in (("networks", "model"), ("norms", "norm")):
        catalog.load(kind, specification[name])


def begin(
    specification: Mapping[str, Any],
    images: Images,
    arguments: argparse.Namespace,
    stop: StopRequest,
    fewer: str,
) -> tuple[TrainingRun, Computation]:
    """Take a device, and put images and network there; `fewer` advises where it has no room."""
    load_code(specification)
    if may_use_gpu(arguments.device, arguments.gpus):
        lease_gpu(arguments.runs_per_gpu, waiting("every GPU has its runs", stop))
    device = choose_device(arguments.device, arguments.gpus)
    computation = choose_computation(specification, device)
    say_uncompiled(specification, computation)
    size = len(images.images) * math.prod(images.shape) / 1e9
    advice = f"try a smaller image_size, fewer train_images and test_images{fewer}"
    with short_of_memory(f"the images take up to {size:.1f} GB: {advice}"):
        run = TrainingRun(specification, images, computation)
    check_last_batch(len(run.sets["train"]), specification)
    return run, computation


def place(computation: Computation, stop: StopRequest) -> AbstractContextManager[None]:
    """A place beside other runs on this machine's CPU; on a GPU `begin` has taken one."""
    if computation.device.type != "cpu":
        return nullcontext()
    return share_cpu(waiting("a timing has this machine's processor", stop))


def train_epochs(
    run: TrainingRun,
    stored: StoredRun,
    environments: Sequence[Mapping[str, Any]],
    arguments: argparse.Namespace,
    stop: StopRequest,
) -> None:
    """Train all epochs that are left, print a line for each, and save the state now and then."""
    report = ProgressFile(arguments.progress, run.specification)

    def after_batch() -> None:
        report.after_batch(run)
        stop.check()

    def save() -> None:
        stored.save_state({"run": run.state_dict(), "environments": environments})

    saved = time.monotonic()
    print(" ".join(f"{column:>19}" for column in LOGGED))
    try:
        for row in run.train(after_batch):
            print(" ".join(f"{_cell(row[column]):>19}" for column in LOGGED), flush=True)
            report.after_epoch(run)
            last = run.epoch == run.specification["epochs"]
            due = last or time.monotonic() - saved >= arguments.save_every
            if arguments.store and due and not run.diverged:
                save()
                saved = time.monotonic()
            stop.check()
    except Interrupted:
        if not arguments.store:
            print("not saved: there is no --store", flush=True)
        elif run.history and not run.diverged:
            save()
            print(f"saved {position(run)}", flush=True)
        raise


def resume(run: TrainingRun, stored: StoredRun, computation: Computation) -> list[dict[str, Any]]:
    """Load the stored state, if there is one; return the environments of the attempts so far.

    Says where the run goes on, and whether it does so under other conditions than it stopped with.
    """
    state = stored.load_state()
    if state is None:
        print(f"starts afresh: no state of run {stored.key}")
        return []
    run.load_state_dict(state["run"])
    print(f"goes on after {position(run)}")
    now, before = describe(computation), state["environments"][-1]
    other = [
        f"{key} was {before.get(key)}, is {now[key]}"
        for key in EXACT
        if before.get(key) != now[key]
    ]
    if other:
        print(f"not an exact continuation: {'; '.join(other)}")
    return state["environments"]


def position(run: TrainingRun) -> str:
    """How far a run is, in words."""
    if run.progress is None:
        return f"epoch {run.epoch}"
    done, total = run.progress.images, len(run.sets["train"])
    return f"{done} of {total} images of epoch {run.epoch + 1}"


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.6g}"

"""Runs of train.py in processes of their own that a test may kill at any instant.

A fork server imports torch once; each run is a fork of it, so that a kill costs no start-up.
"""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import train
from conftest import read_history
from normres import training
from normres.errors import run_command

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["train", "normres.attempt", "torch._dynamo"])

# 26 images in batches of 16: the last batch of each epoch is a short one.
OPTIONS = {"batch_size": 16, "train_images": 26, "test_images": 20, "train_eval_images": 10}


class Attempt:
    """One process that trains; `patch` is called in it first, with `arguments`."""

    def __init__(self, command, log: Path, patch=None, *arguments):
        self.log = log
        self.process = CONTEXT.Process(target=_train, args=(command, log, patch, arguments))
        self.process.start()
        self.started = time.monotonic()

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self.process.pid, number)

    def end(self, timeout: float = 300) -> int:
        """Wait for the end; returns the exit code, -N where signal N killed it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.log.read_text()
        return self.process.exitcode


def _train(command, log, patch, arguments):
    os.environ["OMP_NUM_THREADS"] = "1"
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    if patch:
        patch(*arguments)
    run_command(lambda: train.main(command))


class Runs:
    """Runs of one specification: where they write and how they are compared."""

    def __init__(self, folder: Path, data: Path, model: str, norm: str, epochs: int = 2, **options):
        self.folder, self.data, self.epochs = folder, data, epochs
        chosen = {**OPTIONS, **options}
        self.options = [f"--{name}={value}" for name, value in chosen.items()]
        self.options += ["--model", model, "--norm", norm]
        folder.mkdir(parents=True, exist_ok=True)

    def command(self, name: str) -> list[str]:
        """Arguments of a run that keeps its state in a store of its own, at every epoch."""
        return [
            *["--data", str(self.data), "--out", str(self.folder / name)],
            *["--store", str(self.folder / f"{name}-store"), "--save-every", "0"],
            *["--epochs", str(self.epochs), *self.options],
        ]

    def start(self, name: str, patch=None, *arguments) -> Attempt:
        return Attempt(self.command(name), self.folder / f"{name}.log", patch, *arguments)

    def finish(self, name: str) -> float:
        """Run to the end; returns the seconds it took."""
        attempt = self.start(name)
        assert attempt.end() == 0, attempt.log.read_text()
        return time.monotonic() - attempt.started

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def begun(self, name: str) -> int:
        """How many attempts have said where they begin."""
        path = self.folder / f"{name}.log"
        said = path.read_text() if path.exists() else ""
        return said.count("starts afresh") + said.count("goes on after")

    def assert_same(self, a: str, b: str) -> None:
        """The same bytes, but for the columns of times."""
        first, second = self.folder / a, self.folder / b
        said = self.log(b)
        assert read_history(first) == read_history(second), said
        for name in ("model.pt", "test_logits.npy"):
            assert (first / name).read_bytes() == (second / name).read_bytes(), f"{name}\n{said}"


def kill_at_random(runs: Runs, name: str, duration: float, kills: int, chance: random.Random):
    """Kill the run `name` at `kills` random instants of its `duration` in s; then finish it.

    Each attempt lasts from one instant to the next, the later ones from where they go on. A run
    that was faster than its kills starts over.
    """
    cut = 0
    while cut < kills:
        if cut == 0:
            instants = sorted(chance.uniform(0, duration) for _ in range(kills))
            lasts = [end - begin for begin, end in itertools.pairwise([0, *instants])]
        begun = runs.begun(name) if cut else -1
        attempt = runs.start(name)
        while runs.begun(name) <= begun and attempt.process.is_alive():
            time.sleep(0.01)
        time.sleep(lasts[cut])
        attempt.send(signal.SIGKILL)
        if attempt.end() == -signal.SIGKILL:
            cut += 1
        else:
            cut = 0
            for folder in (name, f"{name}-store"):
                shutil.rmtree(runs.folder / folder)
    runs.finish(name)


# Patches: called in the process that trains, before it trains -----------------------------------


def signal_in_step(number: int, sent: int) -> None:
    """Send `sent` to the process itself during step `number`, counted from 1."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
    step, steps = training.Step.eager, itertools.count(1)

    def stepping(run, positions):
        if next(steps) == number:
            os.kill(os.getpid(), sent)
        return step(run, positions)

    training.Step.eager = stepping


def signal_in_evaluation(number: int, sent: int) -> None:
    """Send `sent` to the process itself during evaluation `number`, counted from 1."""
    evaluate, calls = training.evaluate, itertools.count(1)

    def evaluating(*arguments):
        if next(calls) == number:
            os.kill(os.getpid(), sent)
        return evaluate(*arguments)

    training.evaluate = evaluating


def kill_at_move(name: str, moved: bool) -> None:
    """Kill before or after the first file or folder called `name` is moved into place."""
    replace = os.replace

    def replacing(source, target):
        here = Path(target).name == name
        if here and not moved:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replacing


def kill_in_write(name: str) -> None:
    """Kill when half of the first file whose temporary name has `name` in it is written."""
    write = Path.write_bytes

    def writing(path, content):
        if name in path.name:
            write(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, content)

    Path.write_bytes = writing


def use_compiler_cache(folder: Path) -> None:
    """Let the compiler keep what it makes in `folder`."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)

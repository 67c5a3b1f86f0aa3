"""How fast training is: ours against the plain loop, and against what the machine can do at all.

    python benchmarks/training_speed.py                              every network, norm, precision
    python benchmarks/training_speed.py --models resnet --precisions bfloat16 --repeats 20
    python benchmarks/training_speed.py --choices                    each layout, compiled or not

For each network, norm and precision, two processes take turns: one trains by this project's step,
one by the loop of plain_loop.py (in float32, PyTorch's default). Only one computes at a time, so
both meet the same machine, and each ratio is of two neighbours in time. The bound is what the
machine needs for the convolutions and linear layers of the network alone, each by itself and in
its fastest layout, with the optimiser's reads and writes at the speed of a copy: all else, norms,
ReLU, pooling, the batch, would have to be free. All but the plain loop have huge pages, as the
pipeline's jobs do. With --free-kernels a third process takes turns on a GPU, ours without what
makes the same seed give the same bytes: what that costs.

Prints a table and writes training_speed-DEVICE-PRECISION-VERSION.csv to --out: images/s as the
median over the repeats with quartiles. With --choices, compares the ways in which a network can be
computed instead: what the table in normres/devices.py rests on.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

# First, since it puts the project's package on the path.
from speed_tables import (  # isort: skip
    BATCH, above_zero, apart, at_least, command_line, device_slug, huge_pages, prepared, quartiles,
    specify, write_rows,
)  # fmt: skip
from layer_bounds import bounds, free_kernels
from normres.devices import Computation, can_compile, choose_computation, choose_device
from normres.environment import describe
from normres.errors import run_command
from normres.images import Images, open_images
from normres.training import TrainingRun
from plain_loop import PlainLoop

TOGETHER = 3  # networks that get ready side by side, on a GPU; nine took more than two minutes
COLUMNS = (
    "model", "norm", "precision", "batch_size", "threads",
    "plain_threads", "plain_workers", "repeats",
    "images_per_second", "low", "high",
    "plain_images_per_second", "plain_low", "plain_high",
    "ratio", "ratio_low", "ratio_high",
    "bound_images_per_second", "share_of_bound", "copy_gb_per_second",
    "free_images_per_second", "free_low", "free_high", "ratio_to_free",
    "memory_format", "compiled", "cuda_graphs",
    "device_name", "torch", "cpu_capability", "instruction_sets",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    device = choose_device(arguments.device, None)
    with prepared(arguments.data, least=BATCH) as data:
        cells = itertools.product(arguments.precisions, arguments.models, arguments.norms)
        if arguments.choices:
            for cell in cells:
                print_choices(cell, apart(compare_choices, cell, data, device, arguments))
            return 0
        rows: list[dict[str, Any]] = []
        # On a GPU getting ready takes long and little memory: all at once, but one computes.
        for group in batched(cells, 1 if device == "cpu" else TOGETHER):
            for row in measure(group, data, device, arguments):
                rows.append(row)
                print_row(row, header=len(rows) == 1)
            for precision in {row["precision"] for row in rows}:  # what is there is kept
                of_precision = [row for row in rows if row["precision"] == precision]
                write_rows(of_precision, COLUMNS, csv_file(of_precision[0], arguments.out))
    for precision in arguments.precisions:
        say_mean([row for row in rows if row["precision"] == precision], arguments.out)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line(__doc__)
    count = at_least(1)
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="of a process, CPU")
    parser.add_argument("--workers", type=at_least(0), default=0, help="of the plain DataLoader")
    parser.add_argument("--repeats", type=count, default=10, help="turns of each process")
    parser.add_argument("--seconds", type=above_zero, default=1.0, help="of a turn")
    parser.add_argument("--free-kernels", action="store_true", help="the cost of determinism, GPU")
    parser.add_argument("--choices", action="store_true", help="compare layouts and compilation")
    return parser.parse_args(argv)


class OurLoop:
    """Steps of a TrainingRun, in the order in which it would do them."""

    def __init__(self, specification: dict[str, Any], images: Images, computation: Computation):
        self.run = TrainingRun(specification, images, computation)
        order = torch.randperm(len(self.run.sets["train"])).to(computation.device)
        self.batches = itertools.cycle(order[: len(order) // BATCH * BATCH].split(BATCH))
        self.run.working.module.train()

    def launch(self, steps: int) -> torch.Tensor:
        """Do some steps, without waiting for a device; returns the last loss."""
        for positions in itertools.islice(self.batches, steps):
            loss = self.run.step(positions)
        return loss

    def train(self, steps: int) -> float:
        """Do some steps; returns the last loss."""
        return float(self.launch(steps))


def batched(cells: Iterable[tuple], size: int) -> Iterator[tuple]:
    """Some cells at a time (itertools.batched, which Python 3.11 lacks)."""
    left = iter(cells)
    while group := tuple(itertools.islice(left, size)):
        yield group


def timed(loop: OurLoop | PlainLoop, steps: int) -> float:
    """Images a second over some steps; reading the loss waits for the device."""
    started = time.perf_counter()
    loop.train(steps)
    return steps * BATCH / (time.perf_counter() - started)


def work(connection: Connection, kind: str, cell: tuple, data: Path, device: str, options: Any):
    """A process that trains whenever it is told to, for the number of steps it is told."""
    specification, images = specify(cell, options.threads, device), open_images(data)
    facts = {}
    if kind == "plain":
        torch.set_num_threads(options.threads)
        loop = PlainLoop(specification, images, device, options.workers, drop_last=True)
    else:
        computation = choose_computation(specification, device)
        if kind == "free":
            free_kernels()
        loop = OurLoop(specification, images, computation)
        facts = describe(computation)
    loop.train(3)
    connection.send(facts)
    steps = 0
    while connection.recv() == "train":
        if not steps:  # not sooner: others may be busy getting ready
            # On a GPU a few steps are over before a DataLoader's workers have made new batches.
            rate = timed(loop, 3 if device == "cpu" else 20)
            steps = max(2, round(options.seconds * rate / BATCH))
        connection.send(timed(loop, steps))


class Worker:
    """A process of `work`: started, waited for, given turns, ended."""

    def __init__(self, kind: str, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self.kind = kind
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, kind, *arguments))
        with nullcontext() if kind == "plain" else huge_pages():
            self.process.start()
        theirs.close()  # so that a process that ends early ends this one, too

    def wait(self) -> Any:
        """Wait until it is ready, and return what it runs on; after a turn, its images/s.

        Raises ChildProcessError where it has ended.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise ChildProcessError(
                f"the process {self.kind!r} ended early, with exit code {self.process.exitcode}"
            ) from None

    def turn(self) -> float:
        """Images/s of a turn."""
        with suppress(OSError):  # it has ended, which wait() says
            self.connection.send("train")
        return self.wait()

    def end(self) -> None:
        with suppress(OSError):  # it has ended by itself, and why is what a person shall read
            self.connection.send("stop")
        self.process.join()


def measure(
    cells: Sequence[tuple], data: Path, device: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row of the table for each cell: its loops in turns, and the machine's bound."""
    kinds = ["ours", "plain", *(["free"] if options.free_kernels and device == "cuda" else [])]
    rates = []
    with ExitStack() as stack:
        teams, facts = [], []
        for cell in cells:
            teams.append([Worker(kind, cell, data, device, options) for kind in kinds])
            for worker in teams[-1]:
                stack.callback(worker.end)
        for team in teams:
            ours, *_ = [worker.wait() for worker in team]
            facts.append(ours)
        for _ in range(options.repeats):
            rates.append([[worker.turn() for worker in team] for team in teams])
    # Apart, since this process has no huge pages, and a bound without them is too low on a CPU.
    limits = apart(bounds, cells, data, device, options.threads)
    return [
        make_row(cell, [turn[i] for turn in rates], facts[i], limits[i], options)
        for i, cell in enumerate(cells)
    ]


def make_row(
    cell: tuple,
    turns: Sequence[Sequence[float]],
    facts: dict[str, Any],
    bounded: tuple[float, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The row of a cell; `turns`: images/s of its loops in each turn; `bounded`: bound()'s."""
    ours, plain, *free = zip(*turns, strict=True)
    precision, model, norm = cell
    row = {"model": model, "norm": norm, "precision": precision, "batch_size": BATCH}
    row |= {"threads": facts["cpu_threads"], "plain_threads": options.threads}
    row |= {"plain_workers": options.workers, "repeats": options.repeats}
    row |= spread("images_per_second", "", ours)
    row |= spread("plain_images_per_second", "plain_", plain)
    row |= spread("ratio", "ratio_", ratios(ours, plain))
    for rates in free:
        row |= spread("free_images_per_second", "free_", rates)
        row["ratio_to_free"] = statistics.median(ratios(ours, rates))
    seconds, bandwidth = bounded
    row["bound_images_per_second"] = BATCH / seconds
    row["share_of_bound"] = row["images_per_second"] * seconds / BATCH
    row["copy_gb_per_second"] = bandwidth / 1e9
    facts["instruction_sets"] = " ".join(facts["instruction_sets"])
    return row | {column: facts[column] for column in COLUMNS if column in facts}


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """How many times as fast ours was in each turn."""
    return [a / b for a, b in zip(ours, others, strict=True)]


def spread(name: str, prefix: str, values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quartiles(values)
    return {name: middle, f"{prefix}low": low, f"{prefix}high": high}


def compare_choices(
    cell: tuple, data: Path, device: str, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Images/s of each layout, compiled or not, taking turns in this process."""
    specification = specify(cell, options.threads, device, compile=False)
    images = open_images(data)
    chosen = choose_computation(specification, device)
    layouts = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    loops = {}
    for (name, layout), compiled in itertools.product(layouts.items(), (False, True)):
        if compiled and not can_compile(device):
            continue
        computation = dataclasses.replace(chosen, memory_format=layout, compiled=compiled)
        label = f"{name}{', compiled' if compiled else ''}"
        loops[label] = OurLoop(specification, images, computation)
        loops[label].train(3)
    steps = max(2, round(options.seconds * timed(next(iter(loops.values())), 3) / BATCH))
    rates = {label: [] for label in loops}
    for _ in range(options.repeats):
        for label, loop in loops.items():
            rates[label].append(timed(loop, steps))
    return rates


def print_choices(cell: tuple, rates: dict[str, list[float]]) -> None:
    """A line of what compare_choices() has measured."""
    texts = [f"{label} {statistics.median(values):.0f}" for label, values in rates.items()]
    print(" ".join(cell), "|", "; ".join(texts), "images/s", flush=True)


def print_row(row: dict[str, Any], header: bool) -> None:
    """A line of the table on the screen."""
    if header:
        print(
            f"{row['device_name']}, torch {row['torch']}, {row['threads']} threads, batch {BATCH}; "
            "images/s: median [quartiles]"
        )
    print(
        f"{row['precision']:8} {row['model']:8} {row['norm']:6} "
        f"ours {row['images_per_second']:7.0f} [{row['low']:.0f}, {row['high']:.0f}]  "
        f"plain {row['plain_images_per_second']:6.0f} "
        f"[{row['plain_low']:.0f}, {row['plain_high']:.0f}]  "
        f"ratio {row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]  "
        f"{row['share_of_bound']:.0%} of the bound {row['bound_images_per_second']:.0f}"
        + (f"  {row['ratio_to_free']:.2f} of free kernels" if "ratio_to_free" in row else ""),
        flush=True,
    )


def csv_file(row: dict[str, Any], folder: Path) -> Path:
    """Where the rows of a row's precision are written to."""
    name = f"training_speed-{device_slug(row)}-{row['threads']}threads-{row['precision']}"
    return folder / f"{name}-torch{row['torch']}.csv"


def say_mean(rows: list[dict[str, Any]], folder: Path) -> None:
    """Say the geometric mean ratio of the rows of one precision, and where they are."""
    ratio, path = statistics.geometric_mean(row["ratio"] for row in rows), csv_file(rows[0], folder)
    print(f"{rows[0]['precision']}: geometric mean of the ratios {ratio:.2f}; wrote {path}")


if __name__ == "__main__":
    run_command(main)

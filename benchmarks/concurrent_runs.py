"""How many runs at a time, with how many threads each, train the most images per hour.

    python benchmarks/concurrent_runs.py                            all cores: few runs or many?
    python benchmarks/concurrent_runs.py --device cuda --arrangements 1x1 2x1 4x1 8x1 2s 4s

An arrangement RUNSxTHREADS is that many processes which train at the same time, each a run of its
own; RUNSs is one process with that many runs, each on a CUDA stream of its own. Arrangements take
turns, so that all meet the same machine. What counts is the sum of their images per second:
`cpu_threads` (an option of a study) and `runs_per_gpu` rest on it. On a GPU, NVIDIA's MPS lets
processes compute truly at once: start it (nvidia-cuda-mps-control -d), run this again, and see
what it gains. Prints a table and writes concurrent_runs-DEVICE-VERSION.csv to --out (with MPS,
concurrent_runs-DEVICE-mps-VERSION.csv).
"""

import argparse
import itertools
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

# First, since they put the project's package on the path.
from speed_tables import (  # isort: skip
    BATCH, above_zero, at_least, command_line, device_slug, huge_pages, prepared, quartiles,
    specify, write_rows,
)  # fmt: skip
from training_speed import TOGETHER, OurLoop, batched  # isort: skip

from normres.devices import choose_computation, choose_device
from normres.environment import describe
from normres.errors import run_command
from normres.gpus import mps_is_running
from normres.images import open_images

COLUMNS = (
    "model", "norm", "precision", "batch_size", "runs", "threads", "streams", "mps", "repeats",
    "images_per_second", "low", "high", "ratio",
    "device_name", "torch", "cpu_capability", "cuda_graphs",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    device = choose_device(arguments.device, None)
    rows: list[dict[str, Any]] = []
    with prepared(arguments.data, least=BATCH) as data:
        cells = itertools.product(arguments.precisions, arguments.models, arguments.norms)
        # On a GPU getting ready takes long and little memory, so all do it side by side.
        for group in batched(cells, 1 if device == "cpu" else TOGETHER):
            rows += compare(group, data, device, arguments)
            measured_on = device_slug(rows[0]) + ("-mps" if rows[0]["mps"] else "")
            name = f"concurrent_runs-{measured_on}-torch{rows[0]['torch']}.csv"
            write_rows(rows, COLUMNS, arguments.out / name)  # what is there is kept
    print(f"wrote {arguments.out / name}")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line(__doc__, norms=["batch"])
    cores = os.cpu_count()
    parser.add_argument(
        "--arrangements",
        nargs="+",
        type=read_arrangement,
        default=[(n, cores // n, False) for n in range(1, cores + 1) if cores % n == 0],
        metavar="RUNSxTHREADS|RUNSs",
    )
    parser.add_argument("--repeats", type=at_least(1), default=5)
    parser.add_argument("--seconds", type=above_zero, default=3.0, help="of a turn")
    return parser.parse_args(argv)


def read_arrangement(text: str) -> tuple[int, int, bool]:
    """Runs, CPU threads of each, and whether they share a process; raises argparse's error."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*)|(s))", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: neither RUNSxTHREADS, as 4x1, nor as 4s")
    return int(match[1]), int(match[2] or 1), bool(match[3])


def work(connection, cell: tuple, threads: int, data: Path, device: str, runs: int) -> None:
    """Some runs that train for a number of seconds whenever they are told to."""
    specification = specify(cell, threads, device)
    computation = choose_computation(specification, device)
    torch._dynamo.config.recompile_limit = max(8, runs)
    on_cuda = device == "cuda"
    streams = [torch.cuda.Stream() if on_cuda and runs > 1 else None for _ in range(runs)]
    loops = []
    for stream in streams:
        with torch.cuda.stream(stream):  # of None: the usual one
            loops.append(OurLoop(specification, open_images(data), computation))
            loops[-1].train(3)
    connection.send(describe(computation))
    while seconds := connection.recv():
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(10 if on_cuda else 1):  # waiting more often would leave a GPU idle
                for loop, stream in zip(loops, streams, strict=True):
                    with torch.cuda.stream(stream):
                        loop.launch(2)
                steps += 2 * runs
            if on_cuda:
                torch.cuda.synchronize()
        connection.send(steps * BATCH / (time.perf_counter() - started))


def compare(
    cells: Sequence[tuple], data: Path, device: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per arrangement, for each network, norm and precision of `cells`."""
    with ExitStack() as stack, huge_pages():
        started = [start(cell, data, device, options.arrangements, stack) for cell in cells]
        facts = []
        for members, _ in started:
            fact, *_ = [member.recv() for member in members]
            facts.append(fact)
        rates = take_turns([teams for _, teams in started], options)
    return [
        describe_row(cell, arrangement, rate, of_cell[0], fact)
        for cell, of_cell, fact in zip(cells, rates, facts, strict=True)
        for arrangement, rate in zip(options.arrangements, of_cell, strict=True)
    ]


def take_turns(
    cells: Sequence[Sequence[Sequence[Connection]]], options: argparse.Namespace
) -> list[list[list[float]]]:
    """Images/s of each cell's arrangements in each turn; the processes of one train together."""
    rates = [[[] for _ in teams] for teams in cells]
    for _ in range(options.repeats):
        for teams, of_cell in zip(cells, rates, strict=True):
            for team, of_team in zip(teams, of_cell, strict=True):
                for member in team:
                    member.send(options.seconds)
                of_team.append(sum(member.recv() for member in team))
    return rates


def start(
    cell: tuple, data: Path, device: str, arrangements: Sequence[tuple], stack: ExitStack
) -> tuple[list[Connection], list[list[Connection]]]:
    """Start a cell's processes, which `stack` ends; returns all, and those of each arrangement.

    A process has a part in every arrangement that has its number of runs and threads.
    """
    context = multiprocessing.get_context("spawn")
    members: dict[tuple[int, int], list[Connection]] = {}
    teams = []
    for runs, threads, together in arrangements:
        in_process, wanted = (runs, 1) if together else (1, runs)
        alike = members.setdefault((threads, in_process), [])
        while len(alike) < wanted:
            ours, theirs = context.Pipe()
            arguments = (theirs, cell, threads, data, device, in_process)
            process = context.Process(target=work, args=arguments)
            process.start()
            theirs.close()
            alike.append(ours)
            stack.callback(process.join)
            stack.callback(ours.send, 0)
        teams.append(alike[:wanted])
    return [member for alike in members.values() for member in alike], teams


def describe_row(
    cell: tuple, arrangement: tuple, rates: list[float], first: list[float], facts: dict
) -> dict[str, Any]:
    """A row of the table, printed; `ratio` is to the first arrangement."""
    precision, model, norm = cell
    runs, threads, together = arrangement
    low, middle, high = quartiles(rates)
    ratio = statistics.median(a / b for a, b in zip(rates, first, strict=True))
    how = "on streams of one process" if together else f"x {threads} threads"
    print(
        f"{precision:8} {model:8} {norm:6} {runs} runs {how}: {middle:7.0f} "
        f"[{low:.0f}, {high:.0f}] images/s together, {ratio:.2f} of the first",
        flush=True,
    )
    row = {"model": model, "norm": norm, "precision": precision, "batch_size": BATCH}
    row |= {"runs": runs, "threads": threads, "streams": together}
    row |= {"mps": facts["cuda_graphs"] and mps_is_running(), "repeats": len(first)}
    row |= {"images_per_second": middle, "low": low, "high": high, "ratio": ratio}
    return row | {column: facts[column] for column in COLUMNS if column in facts}


if __name__ == "__main__":
    run_command(main)

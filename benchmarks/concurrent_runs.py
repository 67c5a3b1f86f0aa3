"""How many runs at a time, with how many threads each, train the most images an hour.

    python benchmarks/concurrent_runs.py                            all cores: few runs or many?
    python benchmarks/concurrent_runs.py --device cuda --arrangements 1x1 2x1 4x1 8x1

An arrangement RUNSxTHREADS is that many processes which train at the same time, each a run of its
own. Arrangements take turns, so that all meet the same machine. What counts is the sum of their
images a second: `cpu_threads` (an option of a study) and `runs_per_gpu` rest on it. On a GPU,
NVIDIA's MPS lets processes compute truly at once: start it (nvidia-cuda-mps-control -d), run this
again, and see what it gains. Prints a table and writes concurrent_runs-DEVICE-VERSION.csv to
--out.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# First, since they put the project's package on the path.
from speed_tables import command_line, device_slug, prepared, write_rows  # isort: skip
from training_speed import BATCH, HUGE_PAGES, OurLoop, specify  # isort: skip

from normres.devices import choose_computation, choose_device
from normres.environment import describe
from normres.errors import run_command
from normres.images import open_images

COLUMNS = (
    "model", "norm", "precision", "batch_size", "runs", "threads", "mps", "repeats",
    "images_per_second", "low", "high", "ratio",
    "device_name", "torch", "cpu_capability", "cuda_graphs",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    device = choose_device(arguments.device, None)
    rows: list[dict[str, Any]] = []
    with prepared(arguments.data) as data:
        cells = itertools.product(arguments.precisions, arguments.models, arguments.norms)
        for cell in cells:
            rows += compare(cell, data, device, arguments)
    name = f"concurrent_runs-{device_slug(rows[0]['device_name'])}-torch{rows[0]['torch']}.csv"
    write_rows(rows, COLUMNS, arguments.out / name)
    print(f"wrote {arguments.out / name}")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line(__doc__, norms=["batch"])
    cores = os.cpu_count()
    default = [f"{runs}x{cores // runs}" for runs in range(1, cores + 1) if cores % runs == 0]
    parser.add_argument("--arrangements", nargs="+", default=default, metavar="RUNSxTHREADS")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    return parser.parse_args(argv)


def work(connection, cell: tuple, threads: int, data: Path, device: str) -> None:
    """A run that trains for a number of seconds whenever it is told to."""
    specification = specify(cell, threads, device)
    computation = choose_computation(specification, device)
    loop = OurLoop(specification, open_images(data), computation)
    loop.train(3)
    connection.send(describe(computation))
    while seconds := connection.recv():
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            loop.train(2)
            steps += 2
        connection.send(steps * BATCH / (time.perf_counter() - started))


def compare(
    cell: tuple, data: Path, device: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row an arrangement, for one network, norm and precision."""
    os.environ.setdefault("GLIBC_TUNABLES", HUGE_PAGES)
    context = multiprocessing.get_context("spawn")
    teams: dict[str, list] = {}
    with ExitStack() as stack:
        for arrangement in options.arrangements:
            runs, threads = map(int, arrangement.split("x"))
            team = teams[arrangement] = []
            for _ in range(runs):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, cell, threads, data, device))
                process.start()
                theirs.close()
                team.append(ours)
                stack.callback(process.join)
                stack.callback(ours.send, 0)
        facts, *_ = [member.recv() for team in teams.values() for member in team]
        rates = {arrangement: [] for arrangement in teams}
        for _ in range(options.repeats):
            for arrangement, team in teams.items():
                for member in team:
                    member.send(options.seconds)
                rates[arrangement].append(sum(member.recv() for member in team))
    return [describe_row(cell, name, rates, facts) for name in teams]


def describe_row(cell: tuple, arrangement: str, rates: dict, facts: dict) -> dict[str, Any]:
    """A row of the table, printed; `ratio` is to the first arrangement."""
    precision, model, norm = cell
    runs, threads = map(int, arrangement.split("x"))
    first = next(iter(rates.values()))
    low, middle, high = statistics.quantiles(rates[arrangement], n=4, method="inclusive")
    ratio = statistics.median(a / b for a, b in zip(rates[arrangement], first, strict=True))
    print(
        f"{precision:8} {model:8} {norm:6} {runs} runs x {threads} threads: {middle:7.0f} "
        f"[{low:.0f}, {high:.0f}] images/s together, {ratio:.2f} of {next(iter(rates))}",
        flush=True,
    )
    row = {"model": model, "norm": norm, "precision": precision, "batch_size": BATCH}
    row |= {"runs": runs, "threads": threads, "mps": uses_mps(), "repeats": len(first)}
    row |= {"images_per_second": middle, "low": low, "high": high, "ratio": ratio}
    return row | {column: facts[column] for column in COLUMNS if column in facts}


def uses_mps() -> bool:
    """Whether NVIDIA's Multi-Process Service runs on this machine."""
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
    return (Path(folder) / "control").exists()


if __name__ == "__main__":
    run_command(main)

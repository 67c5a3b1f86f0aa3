"""What the benchmarks of training share: command line, cells, processes, data, written tables."""

import argparse
import math
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

import prepare_data
from normres import catalog
from normres.command_line import make_parser
from normres.errors import InputError
from normres.files import write_csv
from normres.images import open_images
from normres.options import resolve

BATCH = 128
HUGE_PAGES = "glibc.malloc.hugetlb=1"  # as the pipeline sets them for its jobs
PRECISIONS = ("float32", "bfloat16")


def command_line(
    doc: str, norms: Sequence[str] = ("none", "batch", "group")
) -> argparse.ArgumentParser:
    """A parser with what all take: the cells of the table, device, data and output folder.

    `doc` is a command's docstring, `norms` the default.
    """
    parser = make_parser(doc)
    for option, allowed, default in (
        ("--models", catalog.names("networks"), ["convnet", "vgg11", "resnet"]),
        ("--norms", catalog.names("norms"), list(norms)),
        ("--precisions", PRECISIONS, list(PRECISIONS)),
    ):
        parser.add_argument(option, nargs="+", choices=allowed, default=default)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data", type=Path, help="folder made by prepare_data.py [digits]")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the csv files")
    return parser


def at_least(lowest: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `lowest` on."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,15}", text) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {lowest} on")
        return int(text)

    return read


def above_zero(text: str) -> float:
    """An argument's type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def specify(
    cell: tuple[str, str, str], threads: int, device: str = "cpu", **options: Any
) -> dict[str, Any]:
    """The specification of a run of one cell of the table; on a GPU it has one thread, as runs do.

    `threads` are those on a CPU.
    """
    precision, model, norm = cell
    threads = threads if device == "cpu" else 1
    options = {"precision": precision, "cpu_threads": threads, "normalize": "half"} | options
    return resolve(model, norm, 0, 1, {"batch_size": BATCH, **options})


@contextmanager
def huge_pages() -> Iterator[None]:
    """Let processes that start within have huge pages, as the pipeline's jobs do.

    glibc reads the variable when a process starts, so this one stays as it is.
    """
    given = os.environ.get("GLIBC_TUNABLES")
    os.environ.setdefault("GLIBC_TUNABLES", HUGE_PAGES)
    try:
        yield
    finally:
        if given is None:
            del os.environ["GLIBC_TUNABLES"]


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, which has huge pages."""
    context = multiprocessing.get_context("spawn")
    with huge_pages(), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def prepared(data: Path | None, least: int = 1) -> Iterator[Path]:
    """`data`, or a temporary folder with the digits.

    Raises InputError where `data` is no data, or has fewer than `least` training images.
    """
    if data is not None:
        # Here, where it is one line: processes would say it by a traceback.
        if (n_train := open_images(data).n_train) < least:
            raise InputError(f"{data}: {n_train} training images; {least} or more make a step")
        yield data
        return
    with TemporaryDirectory() as folder:
        prepare_data.main(["--dataset", "digits", "--out", folder + "/digits"])
        yield Path(folder) / "digits"


def device_slug(row: Mapping[str, Any]) -> str:
    """What a row of a table was measured on as part of a file's name.

    The name, and of a processor what instructions it has: virtual machines give models one name.
    """
    name = row["device_name"]
    if not row["cuda_graphs"]:
        name += f" {row['cpu_capability']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def quartiles(values: Sequence[float]) -> list[float]:
    """The lower quartile, the median and the upper one; of one value, three times it."""
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def write_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write a table, numbers with four digits."""
    cells = ({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_csv(path, columns, cells)

"""What the benchmarks of training share: command line, data, and how a table is written."""

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

import prepare_data
from normres.files import replacing


def command_line(
    doc: str, norms: Sequence[str] = ("none", "batch", "group")
) -> argparse.ArgumentParser:
    """A parser with what all take: the cells of the table, device, data and output folder.

    `doc` is a command's docstring, `norms` the default.
    """
    summary, _, details = doc.partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["convnet", "vgg11", "resnet"])
    parser.add_argument("--norms", nargs="+", default=list(norms))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data", type=Path, help="folder made by prepare_data.py [digits]")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the csv files")
    return parser


@contextmanager
def prepared(data: Path | None) -> Iterator[Path]:
    """`data`, or a temporary folder with the digits."""
    if data is not None:
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
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})

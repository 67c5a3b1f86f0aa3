"""Prepare a data set once for all runs: decoded, resized, split and described.

    python workflow/scripts/prepare_data.py --dataset cifar10 --data-root data \\
        --out results/data/cifar10
    python workflow/scripts/prepare_data.py --folder photos --image-size 64 \\
        --out results/data/photos

Writes images.npy, labels.npy and dataset.json into --out, all three or none.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path

from normres.command_line import make_parser
from normres.dataset_facts import SIZES
from normres.datasets import read_dataset
from normres.errors import InputError, run_command
from normres.files import expand_home
from normres.image_folder import read_folder
from normres.preparation import write_images

SECONDS_BETWEEN_LINES = 10


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set that the command line names; raises InputError on damaged files."""
    arguments = parse_arguments(argv)
    size = arguments.image_size
    if size is not None and size < 1:
        raise InputError(f"--image-size: {size} is not 1 or more")
    if arguments.dataset:
        root = expand_home(arguments.data_root)
        source = read_dataset(arguments.dataset, root, size)
    else:
        folder = expand_home(arguments.folder)
        source = read_folder(folder, arguments.name or folder.resolve().name, size, report)
    facts = write_images(arguments.out, source)
    print(
        f"{arguments.out}: {facts['n_train']:,} training and {facts['n_test']:,} test images, "
        f"{'x'.join(map(str, facts['shape']))}, {len(facts['class_names'])} classes"
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset", choices=SIZES, help="a built-in data set")
    what.add_argument(
        "--folder", type=Path, help="an image folder with train/<class>/* and test/<class>/*"
    )
    parser.add_argument("--name", help="what to call the image folder (default: as the folder)")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        help="where a built-in data set's files lie, or are downloaded to (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="resize the shorter side and crop the centre square (default: native size)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    return parser.parse_args(argv)


def report(batches: Iterable[Sized], total: int, what: str) -> Iterator[Sized]:
    """Yield `batches`, showing on stderr how many of `total` images are done and the time left.

    A terminal gets a bar that disappears at the end; a log file gets a line now and then.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            for batch in batches:
                yield batch
                bar.advance(task, len(batch))
        return

    started = last = time.monotonic()
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            left = (now - started) * (total - done) / done
            print(f"{what}: {done:,} of {total:,}, {left:.0f} s left", file=sys.stderr, flush=True)
            last = now


if __name__ == "__main__":
    run_command(main)

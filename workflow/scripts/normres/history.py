"""history.csv: one row per epoch, from epoch 0 (before training) on."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from normres.files import read_rows, write_text

COLUMNS = (
    "epoch",
    "train_loss",  # running mean over the epoch, nats an image
    "test_loss",
    "test_correct",
    "test_accuracy",  # accuracies are fractions
    "train_eval_loss",  # on a fixed sample of the training images, in evaluation mode
    "train_eval_accuracy",
    "validation_loss",
    "validation_accuracy",
    "first_conv_grad_norm",
    "last_conv_grad_norm",
    "train_seconds",  # cumulative, training alone
    "eval_seconds",  # cumulative
    "images_per_second",  # of training, in this epoch
)

INTEGERS = {"epoch", "test_correct"}

# A column beside the numbers: the gradient's norm at each convolution, in order of depth, as one
# text. Tables of all runs and epochs (curves.csv) go without it, for the sake of their size.
GRADIENT_NORMS = "conv_grad_norms"

Row = dict[str, float | int | str | None]


def is_diverged(row: Mapping[str, float | int | None]) -> bool:
    """Whether the losses of an epoch are not finite."""
    return not all(math.isfinite(row.get(key) or 0) for key in ("train_loss", "test_loss"))


def best_epoch(history: Sequence[Mapping[str, float | int | None]]) -> dict[str, Any]:
    """The epoch with the highest accuracy, its test accuracy, and on which images it was chosen."""
    chosen_on = "test" if history[0]["validation_accuracy"] is None else "validation"
    best = max(history[1:] or history, key=lambda row: row[f"{chosen_on}_accuracy"])
    return {
        "epoch": best["epoch"],
        "test_accuracy": best["test_accuracy"],
        "chosen_on": chosen_on,
    }


def write_history(history: Iterable[Mapping[str, float | int | None]], path: str | Path) -> None:
    """Write history.csv; numbers in full precision, an empty cell for what there is not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, GRADIENT_NORMS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def read_history(path: str | Path) -> list[Row]:
    """Read what `write_history` wrote; raises InputError where the file is missing."""
    return [
        {
            column: (int if column in INTEGERS else float)(cell) if (cell := row[column]) else None
            for column in COLUMNS
        }
        | {GRADIENT_NORMS: row.get(GRADIENT_NORMS) or None}
        for row in read_rows(path)
    ]


def pack_norms(norms: Iterable[float]) -> str:
    """Norms as a cell of history.csv: four digits each, with spaces between them."""
    return " ".join(f"{norm:.4g}" for norm in norms)


def read_gradient_norms(path: str | Path) -> list[list[float]]:
    """The gradient's norm at each convolution, the first one first: a list an epoch, from 0 on.

    Of a history.csv; an epoch's list is empty where they were not measured. Which convolutions
    count, and on what the norms rest, says evaluation.gradient_norms.
    """
    cells = (row[GRADIENT_NORMS] for row in read_history(path))
    return [[float(norm) for norm in (cell or "").split()] for cell in cells]

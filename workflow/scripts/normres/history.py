"""history.csv: a row an epoch, from epoch 0 (before training) on."""

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

Row = dict[str, float | int | None]


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
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
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
        for row in read_rows(path)
    ]

"""Make batch_sizes.csv: accuracy against the images a batch, or a norm's statistics, has.

    python workflow/scripts/compare_batch_sizes.py --study results/batch-size/study.json \\
        --runs results/batch-size/runs.csv --curves results/batch-size/curves.csv \\
        --data results/data/cifar10 --out results/batch-size/batch_sizes.csv

A line is a norm (with the study's other axes) in one of two arms: in `batch` the optimiser's batch
varies, in `ghost` only what the statistics see, at one batch size. `images` is the number that
varies. A point that lies on several lines, as the largest batch does, is in each of them. Every
point is compared with its line's reference: 32 images, or the most where no run of 32 is complete.
A point of which no run is complete has a row, too, with n = 0: the batch may be what it died of.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from normres.analysis import (
    Inputs,
    difference_cells,
    estimate_cells,
    estimate_columns,
    groups,
    key_columns,
    read_inputs,
)
from normres.errors import run_command
from normres.inference import FRACTION, difference
from normres.wording import LOST

VARIED = ("batch_size", "learning_rate_scaling", "statistics_images")
REFERENCE = 32  # images; what the claim about batch sizes starts from
ACCURACY = "test_accuracy"
UNSCALED_AT = 128  # images: there, both learning rates are the same


def lines(inputs: Inputs) -> Iterator[tuple[dict[str, Any], dict[int, pd.DataFrame]]]:
    """Each line's cells, and all its runs by number of images."""
    runs = inputs.asked.reset_index(drop=True)
    runs = runs.assign(batch_size=runs["batch_size"].astype(int))
    if "learning_rate_scaling" not in runs:
        runs["learning_rate_scaling"] = "constant"
    seen = runs["statistics_images"] if "statistics_images" in runs else pd.Series(0, runs.index)
    runs["statistics_images"] = pd.to_numeric(seen).fillna(0).astype(int)
    for cells, members in groups(runs, key_columns(inputs.study, without=VARIED)):
        whole = members[members["statistics_images"] == 0]
        for scaling, points in whole.groupby("learning_rate_scaling", sort=False):
            line = points
            if not (points["batch_size"] == UNSCALED_AT).any():
                line = pd.concat([points, whole[whole["batch_size"] == UNSCALED_AT]])
            cells_of_line = cells | {"arm": "batch", "learning_rate_scaling": scaling}
            yield cells_of_line, dict(iter(line.groupby("batch_size")))
        ghosts = members[members["statistics_images"] > 0]
        by = ["batch_size", "learning_rate_scaling"]
        for (batch_size, scaling), points in ghosts.groupby(by, sort=False):
            cells_of_line = cells | {"arm": "ghost", "learning_rate_scaling": scaling}
            line = dict(iter(points.groupby("statistics_images")))
            same = (whole["batch_size"] == batch_size) & (whole[by[1]] == scaling)
            if same.any():
                line[batch_size] = whole[same]
            yield cells_of_line, line


def rows(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of batch_sizes.csv, by line and number of images."""
    for cells, points in lines(inputs):
        complete = {images: runs[runs["status"] == "ok"] for images, runs in points.items()}
        measured = [images for images, runs in complete.items() if len(runs)] or list(points)
        reference = REFERENCE if REFERENCE in measured else max(measured)
        for images, members in sorted(points.items()):
            accuracies, status = complete[images][ACCURACY], members["status"]
            found = difference(accuracies, complete[reference][ACCURACY])
            compared = difference_cells("difference", found)
            yield {
                **cells,
                "images": images,
                "batch_size": members["batch_size"].iloc[0],
                "n": len(accuracies),
                **{word: int((status == word).sum()) for word in LOST},
                **estimate_cells(ACCURACY, accuracies, FRACTION),
                "reference_images": reference,
                **(compared if images != reference else dict.fromkeys(compared)),
            }


def main(argv: list[str] | None = None) -> None:
    inputs = read_inputs(__doc__, argv, "batch_sizes")
    columns = [*key_columns(inputs.study, without=VARIED), "arm", "learning_rate_scaling"]
    columns += ["images", "batch_size", "n", *LOST, *estimate_columns(ACCURACY), "reference_images"]
    columns += [f"difference_{part}" for part in ("mean", "low", "high")]
    inputs.write(list(rows(inputs)), columns)


if __name__ == "__main__":
    run_command(main)
